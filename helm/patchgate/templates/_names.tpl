{{/* Names and labels. */}}

{{- define "patchgate.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* 47 characters at most: with its suffixes (`-dashboard-…` apart, which is cut separately) a name must fit into 63. */}}
{{- define "patchgate.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 47 | trimSuffix "-" -}}
{{- else if contains (include "patchgate.name" .) .Release.Name -}}
{{- .Release.Name | trunc 47 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "patchgate.name" .) | trunc 47 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "patchgate.selector" -}}
app.kubernetes.io/name: {{ include "patchgate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: gateway
{{- end -}}

{{- define "patchgate.valkeySelector" -}}
app.kubernetes.io/name: {{ include "patchgate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: valkey
{{- end -}}

{{/* Labels of all objects; not part of a selector, because the version changes. */}}
{{- define "patchgate.commonLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: patchgate
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "patchgate.labels" -}}
{{ include "patchgate.selector" . }}
{{ include "patchgate.commonLabels" . }}
{{- end -}}

{{- define "patchgate.valkeyLabels" -}}
{{ include "patchgate.valkeySelector" . }}
{{ include "patchgate.commonLabels" . }}
{{- end -}}

{{- define "patchgate.serviceAccount" -}}
{{- if .Values.serviceAccount.name -}}
{{- .Values.serviceAccount.name -}}
{{- else -}}
{{- ternary (include "patchgate.fullname" .) "default" .Values.serviceAccount.create -}}
{{- end -}}
{{- end -}}

{{/* The Secret whose keys are files: the chart's own, or an existing one. */}}
{{- define "patchgate.secret" -}}
{{- default (include "patchgate.fullname" .) .Values.secrets.existingSecret -}}
{{- end -}}

{{- define "patchgate.valkey" -}}
{{- printf "%s-valkey" (include "patchgate.fullname" .) -}}
{{- end -}}

{{/* repository:tag, or repository@digest, from a dict with `image` and the default `tag`. */}}
{{- define "patchgate.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (default .tag .image.tag) -}}
{{- end -}}
{{- end -}}
