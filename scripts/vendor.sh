#!/usr/bin/env bash
# What the playground takes of others: pinned npm packages, one file and the licence of each, with a manifest that a test compares with the
# files. Needs npm and the network; what it writes is committed, so that nobody else does.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

take() { # folder, package, version, licence, file in the package
  local target=$1/$2
  (cd "$work" && npm pack --silent "$2@$3" >/dev/null && tar xzf "${2}-$3.tgz")
  rm -rf "$target"
  mkdir -p "$target"
  grep -v '^//# sourceMappingURL' "$work/package/$5" >"$target/$(basename "$5")"
  cp "$work/package/LICENSE" "$target/LICENSE.txt"
  rm -r "$work/package"
  printf '%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" "$(basename "$5")" >>"$work/taken"
}

take app/playground/vendor d3-hierarchy 3.1.3 ISC dist/d3-hierarchy.min.mjs
take app/playground/vendor marked 18.2.1 MIT lib/marked.esm.js
take tests/playground/vendor axe-core 4.14.1 MPL-2.0 axe.min.js

python3 - "$work/taken" <<'PY'
import hashlib, json, pathlib, sys

manifests = {}
for line in open(sys.argv[1], encoding="utf-8"):
    folder, name, version, licence, file = line.rstrip("\n").split("\t")
    home = pathlib.Path(folder)
    files = {f"{name}/{one}": hashlib.sha256((home / name / one).read_bytes()).hexdigest() for one in (file, "LICENSE.txt")}
    manifests.setdefault(home, []).append({"name": name, "version": version, "licence": licence, "files": files})
for home, packages in manifests.items():
    (home / "manifest.json").write_text(json.dumps(packages, indent=2) + "\n", encoding="utf-8")
PY
