#!/bin/sh
# Asks for the verdict on a canary once, and promotes it or rolls it back with a JSON patch; then suspends the CronJob that calls it.
# What it wants to know stands in the environment: see cron-job.yaml and docs/how-to/gate-a-rollout.md.
set -eu

answer=$(curl --fail --silent --show-error --max-time 20 --get \
  ${TOKEN_FILE:+--header "Authorization: Bearer $(cat "$TOKEN_FILE")"} \
  --data-urlencode "predictor=$PREDICTOR" --data-urlencode "baseline=$BASELINE" \
  --data-urlencode "model=$MODEL" --data-urlencode "margin=$MARGIN" \
  "$ADDRESS/v1/models/$NAMESPACE/$DEPLOYMENT/verdict")
verdict=$(printf '%s' "$answer" | jq --raw-output '.verdicts[0].verdict')
echo "$DEPLOYMENT $PREDICTOR: $verdict"

case $verdict in
  better | equivalent) patch=$PROMOTE ;;
  worse) patch=$ROLL_BACK ;;
  *) exit 0 ;; # undecided, incomparable: the next call asks again
esac

kubectl patch "$OBJECT" --namespace "$NAMESPACE" --type json --patch "$patch"
kubectl patch "cronjob/$CRON_JOB" --namespace "$NAMESPACE" --type merge --patch '{"spec": {"suspend": true}}'
