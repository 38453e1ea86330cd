"""Cache stores: object storage by URL, and a twin in memory."""
