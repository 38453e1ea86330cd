#!/bin/bash
# Install the Debian packages that Homeport, its lab and its tests need; says what it installs.
# Somebody who is not root gets the one line to run, and exit code 1 if anything is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

mapfile -t wanted < <(sed -e 's/#.*//' -e '/^\s*$/d' scripts/packages.txt)
missing=()
for package in "${wanted[@]}"; do
  state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$state" = installed ] || missing+=("$package")
done
if ! command -v npm >/dev/null; then missing+=(nodejs npm); fi
[ ${#missing[@]} -gt 0 ] || exit 0

line="apt-get install -y --no-install-recommends ${missing[*]}"
if [ "$(id -u)" != 0 ]; then
  echo "These Debian packages are missing; have them installed with:" >&2
  echo "  sudo $line" >&2
  exit 1
fi
echo "Installing Debian packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# Services of these packages are not started: the lab and the tests start their own.
if [ ! -e /usr/sbin/policy-rc.d ]; then
  printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
  chmod +x /usr/sbin/policy-rc.d
  trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
log=$(mktemp)
if ! { apt-get update && $line; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "Installing failed; the whole output is in $log." >&2
  exit 1
fi
rm -f "$log"
