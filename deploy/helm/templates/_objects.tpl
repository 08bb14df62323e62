{{/* What selectors go by, which does not change while the release lives. There is one server in a namespace, so that its name is fixed:
loggers, dashboards and components go by it. */}}
{{- define "selector" -}}
app.kubernetes.io/name: feedback-metrics-server
app.kubernetes.io/instance: feedback-metrics-server
{{- end }}

{{- define "labels" -}}
{{ include "selector" . }}
app.kubernetes.io/part-of: feedback-metrics
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "metadata" -}}
metadata:
  name: feedback-metrics-server
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "labels" . | nindent 4 }}
    app.kubernetes.io/component: server
{{- end }}

{{/* The objects of a manifest that kustomize takes too, with what the values say in the place of what stands there. */}}
{{- define "objects" -}}
{{- $root := .root }}
{{- $text := $root.Files.Get .path }}
{{- $text = replace "feedback.example.com" $root.Values.host $text }}
{{- with $root.Values.alerts.runbooks }}
{{- $text = replace "docs/how-to/runbooks.md#" (printf "%s#" .) $text }}
{{- end }}
{{- $text = replace "namespace: metrics" (printf "namespace: %s" $root.Release.Namespace) $text }}
{{- if not (kindIs "invalid" $root.Values.alerts.outputMeanMinimum) }}{{/* 0 is a minimum too */}}
{{- $text = replace "expr: -Inf" (printf "expr: %q" (toString $root.Values.alerts.outputMeanMinimum)) $text }}
{{- end }}
{{- range splitList "\n---\n" $text }}
{{- $object := fromYaml . }}
{{- $labels := merge (include "labels" $root | fromYaml) $.labels ($object.metadata.labels | default dict) }}
{{- $_ := set $object "metadata" (merge (dict "namespace" $root.Release.Namespace "labels" $labels) $object.metadata) }}
---
{{ toYaml $object }}
{{- end }}
{{- end }}
