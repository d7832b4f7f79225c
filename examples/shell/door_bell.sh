#!/bin/sh
# A door bell that takes its settings from aliciacfg, with mosquitto_sub and jq: ./door_bell.sh
#
# For small devices and scripts, such as those around ESPHome. It has no key, so secrets are "***" or sealed for it: give
# such a program its secrets another way.
set -eu

service=door_bell
broker=${MQTT_BROKER:-127.0.0.1} port=${MQTT_PORT:-1883} instance=$(hostname)

# mosquitto_sub and mosquitto_pub read user, password and TLS from ~/.config/mosquitto_sub and mosquitto_pub, so that no
# password stands on a command line.
held_epoch=-1 held_sequence=-1

report() { # status [error]
    jq -cn --arg instance "$instance" --argjson revision "$revision" --arg checksum "$checksum" --arg status "$1" \
        --arg error "${2:-}" '{$instance, $revision, $checksum, $status} + if $error == "" then {} else {$error} end' |
        mosquitto_pub -h "$broker" -p "$port" -q 1 -t "alicia/config/applied/$service" -s
}

apply() { # The settings that this program uses, one variable each.
    [ "$volume" -ge 0 ] 2>/dev/null && [ "$volume" -le 100 ] || { echo "/settings/volume_percent has to be from 0 to 100"; return 1; }
    echo "revision $revision: volume $volume" >&2
}

# The retained message comes first, then every change; after a lost connection mosquitto_sub gets it again. An empty
# message means that the configuration was deleted.
mosquitto_sub -h "$broker" -p "$port" -q 1 -t "alicia/config/update/$service" -F %p | while IFS= read -r message; do
    if [ -z "$message" ]; then
        held_epoch=-1 held_sequence=-1
        echo "no configuration any more; the last one stays" >&2
        continue
    fi
    # What is no message of the daemon makes jq fail, and is skipped. tostring and @sh make one quoted word of any value.
    values=$(printf '%s\n' "$message" | jq -er '
        def whole: type == "number" and . == floor and . >= 0 and . < 9007199254740992;
        select((.epoch | whole) and (.sequence | whole) and (.revision | whole))
        | {epoch, sequence, revision, checksum, volume: .config.settings.volume_percent}
        | to_entries[] | "\(.key)=\(.value | tostring | @sh)"' 2>/dev/null) || continue
    eval "$values"
    # A message counts exactly if its (epoch, sequence) is higher, whatever environment or revision it names.
    if [ "$epoch" -eq "$held_epoch" ] && [ "$sequence" -eq "$held_sequence" ]; then
        report "$status" "$problem" # The daemon may have missed it.
        continue
    fi
    if [ "$epoch" -lt "$held_epoch" ] || { [ "$epoch" -eq "$held_epoch" ] && [ "$sequence" -le "$held_sequence" ]; }; then
        continue
    fi
    held_epoch=$epoch held_sequence=$sequence
    status=applied
    problem=$(apply) || status=rejected
    [ -z "$problem" ] || echo "not applied: $problem" >&2
    report "$status" "$problem"
done
