#!/usr/bin/env bash
# Copies what the playground's page takes from npm out of the locked packages: vendor.sh PYTHON FOLDER [lock]
# With `lock` it first writes the lock anew from package.json. FOLDER is written anew, with the licences and the
# checksums of all its files.
set -euo pipefail
python=$(realpath -s "$1") folder=$(realpath -m "$2")
here=$(cd "$(dirname "$0")/page" && pwd)
# shellcheck source=requirements/npm.sh
. "$(dirname "$0")/npm.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here"/package.json "$here"/.npmrc "$work"
cd "$work"
if [ "${3:-}" = lock ]; then
  npm install --package-lock-only
  cp package-lock.json "$here"
fi
cp "$here"/package-lock.json .
npm ci

rm -rf "$folder"
mkdir -p "$folder/licences"
cp node_modules/markdown-it/dist/browser/markdown-it.esm.min.mjs "$folder/markdown-it.js"
cp node_modules/dompurify/dist/purify.es.mjs "$folder/dompurify.js"
cp node_modules/@highlightjs/cdn-assets/es/highlight.min.js "$folder/highlight.js"
cp node_modules/@fontsource-variable/inter/files/inter-latin-wght-normal.woff2 "$folder/inter.woff2"

# The bundle of markdown-it holds the packages that it depends on.
for package in markdown-it entities linkify-it mdurl punycode.js uc.micro dompurify @highlightjs/cdn-assets \
  @fontsource-variable/inter; do
  name=${package#@}
  cat node_modules/"$package"/LICENSE* > "$folder/licences/${name//\//-}.txt"
done
cd "$folder"
find . -type f ! -name SHA256SUMS -printf '%P\n' | LC_ALL=C sort | xargs sha256sum > "$work/SHA256SUMS"
mv "$work/SHA256SUMS" .
chmod -R u=rwX,go=rX .
echo "wrote $(wc -l < SHA256SUMS) files from $(grep -c '"integrity"' "$here/package-lock.json") locked packages"
