{{/* The pod of the gateway. It needs no preStop hook: after SIGTERM it goes on accepting for config.drain.delay, until it is in no list of endpoints. */}}
{{- define "patchgate.pod" -}}
{{- $probeScheme := ternary ", scheme: HTTPS" "" (not (empty .Values.tls.admin.secretName)) -}}
serviceAccountName: {{ include "patchgate.serviceAccount" . }}
automountServiceAccountToken: false
# The variables that Kubernetes derives from Services could fill in a placeholder for another variable.
enableServiceLinks: false
terminationGracePeriodSeconds: {{ include "patchgate.gracePeriod" . }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
containers:
  - name: gateway
    image: {{ include "patchgate.image" (dict "image" .Values.image "tag" .Chart.AppVersion) | quote }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    args: [serve, --config, /etc/patchgate/gateway.yaml]
    securityContext:
      {{- toYaml .Values.securityContext | nindent 6 }}
    ports:
      - { name: traffic, containerPort: {{ .Values.listen.trafficPort }}, protocol: TCP }
      - { name: admin, containerPort: {{ .Values.listen.adminPort }}, protocol: TCP }
    {{- if or .Values.logLevel .Values.extraEnv }}
    env:
      {{- with .Values.logLevel }}
      - { name: LOG_LEVEL, value: {{ . | quote }} }
      {{- end }}
      {{- with .Values.extraEnv }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- end }}
    {{- with .Values.extraEnvFrom }}
    envFrom:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    startupProbe:
      httpGet: { path: /livez, port: admin{{ $probeScheme }} }
      {{- toYaml .Values.probes.startup | nindent 6 }}
    readinessProbe:
      httpGet: { path: /readyz, port: admin{{ $probeScheme }} }
      {{- toYaml .Values.probes.readiness | nindent 6 }}
    livenessProbe:
      httpGet: { path: /livez, port: admin{{ $probeScheme }} }
      {{- toYaml .Values.probes.liveness | nindent 6 }}
    resources:
      {{- toYaml .Values.resources | nindent 6 }}
    volumeMounts:
      # Directories, never subPath: the kubelet does not update a file that is mounted by itself.
      - { name: config, mountPath: /etc/patchgate, readOnly: true }
      - { name: secrets, mountPath: {{ .Values.secrets.mountPath }}, readOnly: true }
      {{- range $port, $tls := .Values.tls }}
      {{- $path := include "patchgate.tlsPath" (dict "port" $port) }}
      {{- if $tls.secretName }}
      - { name: tls-{{ $port }}, mountPath: {{ $path }}, readOnly: true }
      {{- if ne $tls.clientAuth "none" }}
      - { name: tls-{{ $port }}-callers, mountPath: {{ $path }}-callers, readOnly: true }
      {{- end }}
      {{- end }}
      {{- end }}
      {{- if .Values.identity.kubernetes.issuer }}
      - { name: cluster, mountPath: {{ include "patchgate.clusterPath" . }}, readOnly: true }
      {{- end }}
      {{- if include "patchgate.stateVolume" . }}
      - { name: state, mountPath: {{ include "patchgate.statePath" . }} }
      {{- end }}
      {{- with .Values.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
volumes:
  - name: config
    projected:
      sources:
        - configMap: { name: {{ include "patchgate.fullname" . }} }
        {{- with .Values.tenantsConfigMap }}
        - configMap:
            name: {{ . }}
            items: [{ key: tenants.yaml, path: tenants.yaml }]
        {{- end }}
  - name: secrets
    secret:
      secretName: {{ include "patchgate.secret" . }}
      # 0440, for the group of the pod.
      defaultMode: 288
  {{- range $port, $tls := .Values.tls }}
  {{- if $tls.secretName }}
  - name: tls-{{ $port }}
    secret:
      secretName: {{ $tls.secretName }}
      defaultMode: 288
      items: [{ key: tls.crt, path: tls.crt }, { key: tls.key, path: tls.key }]
  {{- if ne $tls.clientAuth "none" }}
  # A volume of its own: the authorities for callers need not be in the same Secret.
  - name: tls-{{ $port }}-callers
    secret:
      secretName: {{ default $tls.secretName $tls.clientCaSecretName }}
      defaultMode: 288
      items: [{ key: ca.crt, path: ca.crt }]
  {{- end }}
  {{- end }}
  {{- end }}
  {{- if .Values.identity.kubernetes.issuer }}
  # Instead of automountServiceAccountToken: an hour's token, which the kubelet renews.
  - name: cluster
    projected:
      defaultMode: 288
      sources:
        - serviceAccountToken: { path: token, expirationSeconds: 3600 }
        - configMap:
            name: kube-root-ca.crt
            items: [{ key: ca.crt, path: ca.crt }]
  {{- end }}
  {{- if include "patchgate.stateVolume" . }}
  - name: state
    persistentVolumeClaim:
      claimName: {{ include "patchgate.stateClaim" . }}
  {{- end }}
  {{- with .Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range . }}
  {{- $selector := dict "labelSelector" (dict "matchLabels" (include "patchgate.selector" $ | fromYaml)) }}
  - {{- toYaml (merge (deepCopy .) $selector) | nindent 4 }}
  {{- end }}
{{- end }}
{{- end -}}
