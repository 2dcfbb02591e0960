# Installs what addons ask for of Python; run in a container of the environment's own Odoo image.
#
# A virtual environment that sees the image's packages makes pip take those for installed: what the image has
# is neither fetched again nor put in front of. Packages become visible to Odoo all at once, or not at all.
set -eu
at=/etc/undoo asked=/tmp/undoo-requirements.txt wheels=/tmp/undoo-wheels venv=/tmp/undoo-venv
packages=/mnt/extra-python addons=/mnt/extra-addons

if [ -s "$at/requirements.txt" ]; then
  found=$(python3 -c 'import pip, os; print(os.path.dirname(os.path.dirname(pip.__file__)))' 2>/dev/null) || exit 90
  # An image may have its packages in a virtual environment of its own, which another one does not see.
  export PYTHONPATH="$found"
  export PIP_CONFIG_FILE="$at/pip.conf" PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_NO_CACHE_DIR=1
  python3 -m venv --system-site-packages --without-pip "$venv"
  # A manifest may name a module to be imported instead of a package; nothing is to be done for one that is there.
  "$venv/bin/python" - "$at/requirements.txt" >"$asked" <<'PYTHON'
import importlib.util, re, sys

def is_there(name):
    try:
        return importlib.util.find_spec(name) is not None
    except Exception:
        return False

for line in open(sys.argv[1]):
    line = line.strip()
    if not (re.match(r"[A-Za-z_]\w*(\.\w+)*$", line) and is_there(line)):
        print(line)
PYTHON
  mkdir "$wheels"
  find "$addons" -maxdepth 3 -type f -name '*.whl' -exec ln -sf '{}' "$wheels/" ';'
  install() { "$venv/bin/python" -m pip install --find-links "$wheels" -r "$asked" "$@"; }
  # Wheels that came with the addons go first: if they are all that is needed, nobody else is asked.
  if [ -s "$asked" ] && { [ -z "$(ls "$wheels")" ] || ! install --no-index; }; then install; fi
fi

# The mark goes first and comes last.
rm -f "$packages/$MARK"
find "$packages" -mindepth 1 -delete
if [ -d "$venv" ]; then cp -R "$venv"/lib/python3*/site-packages/. "$packages/"; fi
sync -f "$packages" 2>/dev/null || sync
printf '%s' "$DIGEST" >"$packages/$MARK"
