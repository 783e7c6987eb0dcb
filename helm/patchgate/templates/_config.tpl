{{/* gateway.yaml, and values that follow from it. */}}

{{/* The chart's own settings have priority over the given ones. */}}
{{- define "patchgate.config" -}}
{{- $listen := dict "traffic" (dict "host" .Values.listen.host "port" (int .Values.listen.trafficPort)) -}}
{{- $admin := dict "host" .Values.listen.host "port" (int .Values.listen.adminPort) -}}
{{- if .Values.admin.auth -}}
{{- $_ := set $admin "token" (printf "${file:%s/admin-token}" .Values.secrets.mountPath) -}}
{{- end -}}
{{- $tokens := .Values.admin.tokens -}}
{{- if and .Values.admin.auth .Values.metrics.serviceMonitor.enabled -}}
{{- $tokens = append $tokens (dict "id" "prometheus" "token" (printf "${file:%s/metrics-token}" .Values.secrets.mountPath) "role" "metrics") -}}
{{- end -}}
{{- if $tokens -}}
{{- $_ := set $admin "tokens" $tokens -}}
{{- end -}}
{{- $_ := set $admin "name" (printf "%s/%s" .Release.Namespace (include "patchgate.fullname" .)) -}}
{{- with .Values.metrics.rules.runbookBaseUrl -}}
{{- $_ := set $admin "runbookBaseUrl" . -}}
{{- end -}}
{{- $_ := set $listen "admin" $admin -}}
{{- range $port, $tls := .Values.tls -}}
{{- if $tls.secretName -}}
{{- $_ := set (get $listen $port) "tls" (include "patchgate.tls" (dict "port" $port "tls" $tls) | fromYaml) -}}
{{- end -}}
{{- end -}}
{{- $own := dict "listen" $listen "tenantsFile" "tenants.yaml" -}}
{{- if .Values.valkey.enabled -}}
{{- $url := printf "redis://%s:6379" (include "patchgate.valkey" .) -}}
{{- $_ := set $own "redis" (dict "url" $url "password" (printf "${file:%s/redis-password}" .Values.secrets.mountPath)) -}}
{{- end -}}
{{- with .Values.identity.kubernetes -}}
{{- if .issuer -}}
{{- $path := include "patchgate.clusterPath" . -}}
{{- $jwks := dict "url" "https://kubernetes.default.svc/openid/v1/jwks" "caFile" (printf "%s/ca.crt" $path) "tokenFile" (printf "%s/token" $path) -}}
{{- $_ := set $own "identity" (dict "issuers" (dict "kubernetes" (dict "issuer" .issuer "audience" .audience "jwks" $jwks))) -}}
{{- end -}}
{{- end -}}
{{- if include "patchgate.stateVolume" . -}}
{{- $_ := set $own "stateDir" (include "patchgate.statePath" .) -}}
{{- end -}}
{{- mergeOverwrite (deepCopy .Values.config) $own | toYaml -}}
{{- end -}}

{{/* The token for the API server, and its authority. */}}
{{- define "patchgate.clusterPath" -}}
/etc/patchgate-cluster
{{- end -}}

{{- define "patchgate.statePath" -}}
/var/lib/patchgate
{{- end -}}

{{/* Embedded state with budgets needs a volume for their counts, unless the configuration names a directory of its own. */}}
{{- define "patchgate.stateVolume" -}}
{{- if not (or (include "patchgate.hasRedis" .) .Values.config.stateDir) -}}
{{- range $id, $account := default dict .Values.config.accounts -}}
{{- if (default dict $account).budgets -}}true{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "patchgate.stateClaim" -}}
{{- default (printf "%s-state" (include "patchgate.fullname" .)) .Values.state.existingClaim -}}
{{- end -}}

{{/* Files of the Secrets that _pod.tpl mounts, from a dict with `port` and its values. */}}
{{- define "patchgate.tls" -}}
certFile: {{ include "patchgate.tlsPath" . }}/tls.crt
keyFile: {{ include "patchgate.tlsPath" . }}/tls.key
minVersion: {{ .tls.minVersion }}
clientAuth: {{ .tls.clientAuth }}
{{- if ne .tls.clientAuth "none" }}
clientCaFile: {{ include "patchgate.tlsPath" . }}-callers/ca.crt
{{- end }}
{{- end -}}

{{- define "patchgate.tlsPath" -}}
/etc/patchgate-tls/{{ .port }}
{{- end -}}

{{- define "patchgate.hasRedis" -}}
{{- if or .Values.valkey.enabled .Values.config.redis -}}true{{- end -}}
{{- end -}}

{{- define "patchgate.mayHaveSeveral" -}}
{{- if or .Values.autoscaling.enabled (gt (int .Values.replicaCount) 1) -}}true{{- end -}}
{{- end -}}

{{/*
Options that only a restart can change: RESTART_ONLY in src/reload/restart-only.ts; a test compares the two. A longer timeout
than the longest before is one of them where there is Redis.
*/}}
{{- define "patchgate.fixed" -}}
{{- $config := include "patchgate.config" . | fromYaml -}}
{{- $cache := default dict $config.cache -}}
{{- $idempotency := default dict $config.idempotency -}}
{{- $limits := default dict $config.limits -}}
{{- $tls := dict -}}
{{- range $port, $of := .Values.tls -}}
{{- $_ := set $tls $port (ternary $of.clientAuth "off" (not (empty $of.secretName))) -}}
{{- end -}}
{{- $fixed := dict
  "listen" .Values.listen
  "tls" $tls
  "redis" (default dict $config.redis)
  "stateDir" (default "" $config.stateDir)
  "cache" (pick $cache "memory" "shared")
  "idempotency" (pick $idempotency "ttl" "memory")
  "limits" (pick $limits "headers" "headersTimeout" "idleTimeout" "failedAuth" "requestsPerSecond")
  "tracing" (pick (default dict $config.tracing) "endpoint" "headers" "sample" "serviceName") -}}
{{- if $config.redis -}}
{{- $timeouts := dict -}}
{{- range $id, $upstream := default dict $config.upstreams -}}
{{- $_ := set $timeouts $id (default "" (default dict $upstream).timeout) -}}
{{- end -}}
{{- $_ := set $fixed "timeouts" $timeouts -}}
{{- end -}}
{{- /* The secrets that these options and variables read: a new password replaces the pods, if the chart has it. */ -}}
{{- $files := dict -}}
{{- range include "patchgate.filesIn" (dict "text" (toYaml $fixed) "path" .Values.secrets.mountPath) | fromJsonArray -}}
{{- $_ := set $files . (default "" (get (default dict $.Values.secrets.values) .)) -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- $ref := default dict (default dict .valueFrom).secretKeyRef -}}
{{- if eq (default "" $ref.name) (include "patchgate.secret" $) -}}
{{- $_ := set $files $ref.key (default "" (get (default dict $.Values.secrets.values) $ref.key)) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $fixed "secrets" $files -}}
{{- $fixed | toJson -}}
{{- end -}}

{{/* Keys of the Secret that a text names by `${file:PATH/KEY}`, as a JSON list. */}}
{{- define "patchgate.filesIn" -}}
{{- $prefix := printf "${file:%s/" .path -}}
{{- $keys := list -}}
{{- range regexFindAll (printf "%s[^}/]+\\}" (regexQuoteMeta $prefix)) .text -1 -}}
{{- $keys = append $keys (. | trimPrefix $prefix | trimSuffix "}") -}}
{{- end -}}
{{- $keys | uniq | toJson -}}
{{- end -}}

{{/* Milliseconds of `250ms 30s 5m 24h 1d`, from a dict with `text` and `option`, its name. */}}
{{- define "patchgate.milliseconds" -}}
{{- $units := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000 -}}
{{- if not (regexMatch "^[0-9]+(\\.[0-9]+)?(ms|s|m|h|d)$" .text) -}}
{{- fail (printf "%s: must be a duration such as 250ms, 30s or 5m" .option) -}}
{{- end -}}
{{- $unit := regexFind "[a-z]+$" .text -}}
{{- mulf (trimSuffix $unit .text | float64) (get $units $unit) | ceil | int64 -}}
{{- end -}}

{{/* The gateway's delay and timeout, and a margin for closing. */}}
{{- define "patchgate.gracePeriod" -}}
{{- $drain := default dict .Values.config.drain -}}
{{- $delay := include "patchgate.milliseconds" (dict "text" (default "5s" $drain.delay) "option" "config.drain.delay") -}}
{{- $timeout := include "patchgate.milliseconds" (dict "text" (default "30s" $drain.timeout) "option" "config.drain.timeout") -}}
{{- add (divf (add (int64 $delay) (int64 $timeout)) 1000 | ceil | int64) (int64 .Values.drainMargin) -}}
{{- end -}}

{{/* Bytes of `128MiB` or `512Mi`. */}}
{{- define "patchgate.bytes" -}}
{{- $units := dict "B" 1 "" 1 "KiB" 1024 "Ki" 1024 "MiB" 1048576 "Mi" 1048576 "GiB" 1073741824 "Gi" 1073741824 "k" 1000 "M" 1000000 "G" 1000000000 -}}
{{- $unit := regexFind "[A-Za-z]*$" . -}}
{{- mulf (trimSuffix $unit . | float64) (default 0 (get $units $unit)) | ceil | int64 -}}
{{- end -}}

{{/* Ports in config.redis, as a JSON list of numbers. They are found by text: a URL with a placeholder cannot be parsed. */}}
{{- define "patchgate.redisPorts" -}}
{{- $redis := default dict .Values.config.redis -}}
{{- $ports := .Values.networkPolicy.egress.redisPorts -}}
{{- if or $redis.sentinels $redis.cluster -}}
{{- $ports = append $ports 6379 -}}
{{- range concat (default list $redis.sentinels) (default list $redis.cluster) -}}
{{- $ports = append $ports (regexFind "[0-9]+$" .) -}}
{{- end -}}
{{- else -}}
{{- $port := regexReplaceAll "^.*:([0-9]+)(/[0-9]*)?$" (default "" $redis.url) "${1}" -}}
{{- $ports = append $ports (ternary $port "6379" (regexMatch "^[0-9]+$" $port)) -}}
{{- end -}}
{{- $numbers := list -}}
{{- range $ports -}}
{{- $numbers = append $numbers (int .) -}}
{{- end -}}
{{- $numbers | uniq | toJson -}}
{{- end -}}
