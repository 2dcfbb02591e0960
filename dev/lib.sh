# shellcheck shell=bash
# What the scripts of this folder share: where the cache is, how a line is said,
# how a failure is told, and how Debian packages and registries are reached.
# It is sourced, never run.

CACHE="${UNDOO_CACHE:-$HOME/.cache/undoo}"
SELF="dev/$(basename "$0")"

# say TEXT: one line for one thing really done. On standard error, so that the
# scripts which print a path can be used as $(dev/...).
say() { printf '%s: %s\n' "$SELF" "$*" >&2; }

# die WHAT CAUSE NEXT: every failure names the three.
die() {
  printf '%s: failed: %s\n  cause: %s\n  next:  %s\n' "$SELF" "$1" "$2" "$3" >&2
  exit 1
}

need_root() {
  [ "$(id -u)" = 0 ] || die "$1" "it needs root, this is user $(id -un)" "run it as root, for example: sudo $SELF"
}

# Free space under a folder, in MiB, so that a full disk is told before the work.
need_space() { # FOLDER MIB
  local have
  mkdir -p "$1"
  have=$(df -Pm "$1" | awk 'NR==2 {print $4}')
  [ "$have" -ge "$2" ] || die "no room under $1" "$have MiB are free, $2 MiB are needed" "free space there, or set UNDOO_CACHE to a folder on a larger disk"
}

# apt_install PACKAGE...: asks apt for what is not installed yet; reads the
# package lists anew only when apt does not find the packages with those it has.
apt_install() {
  local missing=() package log
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  [ "${#missing[@]}" -gt 0 ] || return 0
  need_root "install ${missing[*]}"
  mkdir -p "$CACHE/log"
  log="$CACHE/log/apt.log"
  say "installing Debian packages: ${missing[*]}"
  if ! apt_get install -y --no-install-recommends "${missing[@]}" >"$log" 2>&1; then
    say "reading Debian's package lists"
    apt_get update >"$log" 2>&1 || die "apt-get update" "$(apt_cause "$log")" "check the network and /etc/apt; the whole log is $log"
    apt_get install -y --no-install-recommends "${missing[@]}" >"$log" 2>&1 ||
      die "apt-get install ${missing[*]}" "$(apt_cause "$log")" "the whole log is $log"
  fi
}

apt_get() { DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 "$@"; }
apt_cause() { grep -E '^(E|Err|W):' "$1" | tail -n 2 | tr '\n' ' ' | grep . || tail -n 1 "$1"; }

# One script at a time for one thing: two `make test` must not build one image twice.
# The descriptor is closed for children by passing 9>&- to whatever stays behind.
lock() { # NAME
  mkdir -p "$CACHE/lock"
  exec 9>"$CACHE/lock/$1"
  if ! flock -n 9; then
    say "waiting for another $1 to end"
    flock -w 3600 9 || die "lock $CACHE/lock/$1" "another run has held it for an hour" "see 'fuser -v $CACHE/lock/$1'"
  fi
}

# The mirror of the machine's own apt configuration, of Debian itself (main) or of
# its security updates (security). Nothing where apt has none.
apt_site() { # main|security
  # shellcheck disable=SC2016
  apt-get indextargets --format '$(CREATED_BY) $(SITE) $(RELEASE)' 2>/dev/null |
    awk -v what="$1" '$1 == "Packages" && ($3 ~ /-security$/) == (what == "security") && $2 ~ /debian/ && $3 !~ /-(updates|backports)/ && !seen++ {print $2}'
}

# Sets the array pip to a command that runs pip, whatever Python the machine has.
pip_ready() {
  if python3 -m pip --version >/dev/null 2>&1; then
    pip=(python3 -m pip)
    return
  fi
  # Debian 12 has Python without pip.
  apt_install python3-venv
  if [ ! -x "$CACHE/venv/pip/bin/pip" ]; then
    say "making a Python environment for pip in $CACHE/venv/pip"
    /usr/bin/python3 -m venv "$CACHE/venv/pip" || die "python3 -m venv $CACHE/venv/pip" "see the lines above" "remove that folder and run again"
  fi
  # shellcheck disable=SC2034
  pip=("$CACHE/venv/pip/bin/python" -m pip)
}

# Prints the path of a server's program in /usr/sbin: the machine's own, or that of a Debian package
# which is unpacked into the cache and not installed, so that nothing of it is ever started or
# configured on the machine. The libraries that it needs are installed.
unpacked_server() { # PROGRAM PACKAGE LIBRARY...
  local program="$1" package="$2" folder="$CACHE/$1" log="$CACHE/log/$1.log"
  shift 2
  if [ -x "/usr/sbin/$program" ]; then
    echo "/usr/sbin/$program"
    return
  fi
  if [ ! -x "$folder/usr/sbin/$program" ]; then
    lock "$program"
    apt_install "$@"
    say "unpacking Debian's $package"
    mkdir -p "$CACHE/log"
    rm -rf "$folder" "$folder.new"
    mkdir -p "$folder.new"
    if ! (cd "$folder.new" && apt_get download "$package") >"$log" 2>&1; then
      apt_get update >"$log" 2>&1 || die "apt-get update" "$(apt_cause "$log")" "the whole log is $log"
      (cd "$folder.new" && apt_get download "$package") >"$log" 2>&1 ||
        die "apt-get download $package" "$(apt_cause "$log")" "the whole log is $log"
    fi
    dpkg-deb -x "$folder.new"/*.deb "$folder.new" >"$log" 2>&1 || die "dpkg-deb -x $package" "$(tail -n 1 "$log")" "the whole log is $log"
    rm -f "$folder.new"/*.deb
    mv "$folder.new" "$folder"
  fi
  echo "$folder/usr/sbin/$program"
}
