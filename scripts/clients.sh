#!/usr/bin/env bash
# Make .venv-clients with the clients of locks/clients.txt over the packages of .venv, and npm's clients; silent and instant when all is there.
set -euo pipefail
cd "$(dirname "$0")/.."

stamp=.venv-clients/.installed
wanted=$(cat locks/clients.txt tests/clients/package-lock.json | cksum)
if [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then exit 0; fi

echo "installing $(grep -c == locks/clients.txt) packages from locks/clients.txt, and npm's clients"
.venv/bin/python -m venv --clear .venv-clients
.venv-clients/bin/python -m pip --disable-pip-version-check install --no-deps --quiet --requirement locks/clients.txt
.venv-clients/bin/npm ci --prefix tests/clients --ignore-scripts --no-audit --no-fund --loglevel error
# What the clients share with the server, torch and transformers among it, is not installed twice.
purelib() { "$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }
echo "import site; site.addsitedir('$(purelib .venv)')" >"$(purelib .venv-clients)/server.pth"
echo "$wanted" >"$stamp"
