"""The vault's rows: tables, one repository for each aggregate, migrations."""
