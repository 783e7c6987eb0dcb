{{/* Rules that involve several values, which values.schema.json cannot express. Each error names the value and what to do. */}}
{{- define "patchgate.checks" -}}
{{- if not .Values.image.repository -}}
{{- fail "image.repository: say where your build of the image is kept" -}}
{{- end -}}
{{- if not .Values.config.accounts -}}
{{- fail "config.accounts: name at least one Patchworks account and its credentials" -}}
{{- end -}}
{{- if and .Values.tenants .Values.tenantsConfigMap -}}
{{- fail "tenantsConfigMap: give either tenants or tenantsConfigMap, not both" -}}
{{- end -}}
{{- if not (or .Values.tenants .Values.tenantsConfigMap) -}}
{{- fail "tenants: name at least one tenant, or a ConfigMap with tenants.yaml by tenantsConfigMap" -}}
{{- end -}}
{{- include "patchgate.checkReplicas" . -}}
{{- include "patchgate.checkSecrets" . -}}
{{- include "patchgate.checkVariables" . -}}
{{- include "patchgate.checkMemory" . -}}
{{- include "patchgate.checkTls" . -}}
{{- if and .Values.ingress.enabled .Values.httpRoute.enabled -}}
{{- fail "httpRoute.enabled: give either an Ingress or an HTTPRoute, not both" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.hosts: name at least one host; without, the gateway would answer for all of them" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.parentRefs: name the Gateway it belongs to" -}}
{{- end -}}
{{- end -}}

{{- define "patchgate.checkReplicas" -}}
{{- $redis := default dict .Values.config.redis -}}
{{- if and .Values.valkey.enabled (or $redis.url $redis.sentinels $redis.cluster $redis.password) -}}
{{- fail "valkey.enabled: sets url and password of config.redis; leave them out, or leave Valkey off" -}}
{{- end -}}
{{- if and .Values.config.redis (not .Values.valkey.enabled) (not (or $redis.url $redis.sentinels $redis.cluster)) -}}
{{- fail "config.redis: needs one of url, sentinels and cluster, or valkey.enabled" -}}
{{- end -}}
{{- if and (include "patchgate.mayHaveSeveral" .) (not (include "patchgate.hasRedis" .)) -}}
{{- $value := ternary "autoscaling.enabled" "replicaCount" .Values.autoscaling.enabled -}}
{{- fail (printf "%s: several replicas need config.redis or valkey.enabled. Without, each counts for itself and sends a whole ceiling: Patchworks would answer 429" $value) -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- fail "autoscaling.minReplicas: is above maxReplicas" -}}
{{- end -}}
{{- end -}}

{{/* A missing file keeps new pods from starting, so it is reported before there are any. */}}
{{- define "patchgate.checkSecrets" -}}
{{- $values := default dict .Values.secrets.values -}}
{{- if and .Values.secrets.existingSecret $values -}}
{{- fail "secrets.values: give either existingSecret or values, not both" -}}
{{- end -}}
{{- if not .Values.secrets.existingSecret -}}
{{- if and .Values.admin.auth (not (hasKey $values "admin-token")) -}}
{{- fail "secrets.values.admin-token: the admin port listens on the pod's network and needs a token. Give one here or in secrets.existingSecret, or set admin.auth: false" -}}
{{- end -}}
{{- if and .Values.valkey.enabled (not (hasKey $values "redis-password")) -}}
{{- fail "secrets.values.redis-password: Valkey needs a password; give one here or in secrets.existingSecret" -}}
{{- end -}}
{{- $texts := printf "%s\n%s\n%s" (toYaml .Values.config) (toYaml .Values.tenants) (toYaml .Values.admin.tokens) -}}
{{- range include "patchgate.filesIn" (dict "text" $texts "path" .Values.secrets.mountPath) | fromJsonArray -}}
{{- if not (hasKey $values .) -}}
{{- fail (printf "secrets.values: has no key %q, but the configuration reads %s/%s" . $.Values.secrets.mountPath .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The same for variables, unless some come from ConfigMaps or Secrets that the chart cannot read. */}}
{{- define "patchgate.checkVariables" -}}
{{- $known := list "HOSTNAME" "HOME" "PATH" -}}
{{- range .Values.extraEnv -}}
{{- $known = append $known .name -}}
{{- end -}}
{{- if not .Values.extraEnvFrom -}}
{{- $texts := printf "%s\n%s\n%s" (toYaml .Values.config) (toYaml .Values.tenants) (toYaml .Values.admin.tokens) -}}
{{- range regexFindAll "(^|[^$])\\$\\{[A-Za-z_][A-Za-z0-9_]*\\}" $texts -1 -}}
{{- $name := regexFind "[A-Za-z_][A-Za-z0-9_]*\\}$" . | trimSuffix "}" -}}
{{- if not (has $name $known) -}}
{{- fail (printf "extraEnv: has no variable %s, but the configuration needs it; write ${%s:-default} if it may be missing" $name $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Otherwise the cache and the bodies in flight would fill until the kernel kills the process, again and again. */}}
{{- define "patchgate.checkMemory" -}}
{{- $limit := (default dict (.Values.resources).limits).memory -}}
{{- $room := default "128MiB" (default dict .Values.config.cache).memory -}}
{{- $bodies := default "64MiB" (default dict .Values.config.limits).bufferedTotal -}}
{{- $size := "^[0-9.]+(B|KiB|MiB|GiB)$" -}}
{{- if and $limit (regexMatch $size $room) (regexMatch $size $bodies) -}}
{{- $allowed := include "patchgate.bytes" (toString $limit) | int64 -}}
{{- if gt (add (include "patchgate.bytes" $room | int64) (include "patchgate.bytes" $bodies | int64) (mul 192 1048576)) $allowed -}}
{{- fail (printf "resources.limits.memory: %v is too little for config.cache.memory of %s, config.limits.bufferedTotal of %s and the 192Mi the rest may need" $limit $room $bodies) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "patchgate.checkTls" -}}
{{- range $port, $tls := .Values.tls -}}
{{- if and (not $tls.secretName) (or (ne $tls.clientAuth "none") $tls.clientCaSecretName) -}}
{{- fail (printf "tls.%s.secretName: client certificates are asked for only where the port speaks TLS; name the Secret with its own certificate" $port) -}}
{{- end -}}
{{- if and $tls.clientCaSecretName (eq $tls.clientAuth "none") -}}
{{- fail (printf "tls.%s.clientAuth: none asks for no certificate, but clientCaSecretName names an authority for callers" $port) -}}
{{- end -}}
{{- end -}}
{{- if eq .Values.tls.admin.clientAuth "required" -}}
{{- fail "tls.admin.clientAuth: the kubelet has no certificate to show, so required would end its probes, and then the pods. Use optional or none; the token of admin.auth guards the port" -}}
{{- end -}}
{{- end -}}
