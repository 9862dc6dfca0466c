# shellcheck shell=bash
# To be sourced: makes a folder for a private sound server and leads its clients there. ALSA's own configuration makes
# `default` a client of PulseAudio when a server answers at PULSE_SERVER; the machine's configuration is left alone.

MEOWLINK_PULSE_DIR=$(mktemp -d)
trap 'rm -rf "$MEOWLINK_PULSE_DIR"' EXIT
export MEOWLINK_PULSE_DIR
export PULSE_SERVER=unix:$MEOWLINK_PULSE_DIR/native PULSE_CLIENTCONFIG=$MEOWLINK_PULSE_DIR/client.conf
# Nothing may start a server of its own in an outage.
printf 'autospawn = no\n' >"$PULSE_CLIENTCONFIG"
unset ALSA_CONFIG_PATH
