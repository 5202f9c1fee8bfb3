#!/usr/bin/env bash
# Programs that the tests of deploy/ and of the playground run, and that no Python package brings: Debian's prometheus (with promtool) and
# kubectl are unpacked into .tools, without root; its chromium needs so many libraries that it is installed. Does nothing twice.
set -euo pipefail
cd "$(dirname "$0")/.."

unpack() { # program, Debian package
  if [ -x ".tools/bin/$1" ] || command -v apt-get >/dev/null && fetch "$2"; then return; fi
  echo "no $1: it is in Debian's package $2" >&2
}

fetch() {
  local folder
  folder=$(mktemp -d)
  chmod 755 "$folder" # apt downloads as another user
  echo "unpacking Debian's $1"
  (cd "$folder" && apt-get download --quiet --quiet "$1") || return
  dpkg-deb --extract "$folder"/*.deb "$folder/all"
  mkdir -p .tools/bin
  cp -r "$folder"/all/usr/bin/. .tools/bin/
  rm -r "$folder"
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

if [ ! -x .tools/bin/promtool ] || ! command -v chromium >/dev/null; then as_root apt-get update --quiet --quiet || true; fi
unpack promtool prometheus
unpack kubectl kubernetes-client
command -v chromium >/dev/null || DEBIAN_FRONTEND=noninteractive as_root apt-get install --yes --quiet --quiet --no-install-recommends chromium fonts-dejavu-core
