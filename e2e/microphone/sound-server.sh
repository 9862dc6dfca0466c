# shellcheck shell=bash
# Source this. It creates a folder for a private sound server, and points its clients there. ALSA's own configuration
# makes `default` a client of PulseAudio when a server answers at PULSE_SERVER. The machine's configuration is not
# changed.

MEOWLINK_PULSE_DIR=$(mktemp -d)
trap 'rm -rf "$MEOWLINK_PULSE_DIR"' EXIT
export MEOWLINK_PULSE_DIR
export PULSE_SERVER=unix:$MEOWLINK_PULSE_DIR/native PULSE_CLIENTCONFIG=$MEOWLINK_PULSE_DIR/client.conf
# During an outage, no client may start a server of its own.
printf 'autospawn = no\n' >"$PULSE_CLIENTCONFIG"
unset ALSA_CONFIG_PATH
