#!/bin/sh
# Prints the rules of deploy/prometheus, or of the folder that is named, as the Prometheus Operator wants them: … | kubectl apply --filename -
set -eu
folder=${1:-$(dirname "$0")/../../../prometheus}
for name in rules alerts; do
  [ -f "$folder/$name.yml" ]
  printf -- '---\napiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: ponder-%s\n  namespace: ponder\n' "$name"
  printf '  labels: {app.kubernetes.io/name: ponder}\nspec:\n'
  sed 's/^/  /' "$folder/$name.yml"
done
