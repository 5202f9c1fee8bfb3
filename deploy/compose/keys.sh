#!/bin/sh
# Makes the secrets of docker-compose.yml once, as files in the current folder. What the environment gives takes the place of what was made.
set -eu
umask 0337 # for the owner and the group to read: Prometheus and the server

random() { tr -dc 'A-Za-z0-9' </dev/urandom | head -c 43; } # 256 bits

keep() { # file, text; whole or not at all, and over one that cannot be written to
  rm -f ".$1" && printf %s "$2" >".$1" && mv -f ".$1" "$1"
}

secret() { # file, what was given
  if [ -n "$2" ]; then keep "$1" "$2"; elif [ ! -s "$1" ]; then keep "$1" "$(random)"; fi
}

secret ponder_api_keys "${PONDER_API_KEYS:-}"
secret ponder_admin_keys "${PONDER_ADMIN_KEYS:-}"
secret grafana_admin_password "${GRAFANA_ADMIN_PASSWORD:-}"
secret replica_api_key ""
secret valkey_password ""
chmod 0444 grafana_admin_password # Grafana is in no group with the others, and may read nothing else

first=$(tr ',' '\n' <ponder_admin_keys | tr -d ' \t' | grep -m1 .) || { echo "PONDER_ADMIN_KEYS has no key in it" >&2 && exit 1; }
keep ponder_admin_key "$first" # for the scraper

# Of the fleet. A file ponder_shared_state_url would be read by a server alone too, which has no store.
keep front-end.yml "replica-api-key: '$(cat replica_api_key)'
shared-state-url: redis://:$(cat valkey_password)@valkey:6379/0"
keep replica.yml "api-keys: '$(cat replica_api_key)'"

echo "Your API key: docker compose exec prometheus cat /run/secrets/ponder_api_keys"
