{{/* Names */}}
{{- define "argus.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "argus.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* Labels that select the pods of one component: (list $ "node") */}}
{{- define "argus.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ default $root.Chart.Name $root.Values.nameOverride }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "argus.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "argus.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* A Secret's name: (list $ .Values.tls.nodeSecret "node-tls") */}}
{{- define "argus.secret" -}}
{{- $root := index . 0 -}}
{{- default (printf "%s-%s" (include "argus.fullname" $root) (index . 2)) (index . 1) -}}
{{- end -}}

{{/* An image: (list $ "-cuda") */}}
{{- define "argus.image" -}}
{{- $root := index . 0 -}}
{{- $image := $root.Values.image -}}
{{- printf "%s:%s%s" $image.repository (default $root.Chart.AppVersion $image.tag) (index . 1) -}}
{{- end -}}

{{- define "argus.serverName" -}}
{{- default (printf "%s-coordinator.%s.svc" (include "argus.fullname" .) .Release.Namespace) .Values.tls.serverName -}}
{{- end -}}

{{/* Whom nodes and gateways dial. With a stand-by that is each coordinator by itself: they find the
     one that leads, whereas a connection through a Service would stay with the one it got. */}}
{{- define "argus.coordinators" -}}
{{- $name := printf "%s-coordinator" (include "argus.fullname" .) -}}
{{- if .Values.standby.enabled -}}
{{- printf "%s-0.%s-pods:7420,%s-1.%s-pods:7420" $name $name $name $name -}}
{{- else -}}
{{- printf "%s:7420" $name -}}
{{- end -}}
{{- end -}}

{{/* The settings: those of the chart under those of `config`, as YAML. Every component gets all of
     them; where they name files, each has files of its own there. */}}
{{- define "argus.config" -}}
{{- $config := dict
    "coordinator" (dict
        "bind" "0.0.0.0:7420"
        "metrics" "0.0.0.0:7422"
        "insecure" .Values.insecure
        "drain_grace_s" 30)
    "gateway" (dict
        "bind" "0.0.0.0:7421"
        "coordinator" (include "argus.coordinators" .)
        "tls" (and .Values.gateway.tls (not .Values.insecure))
        "insecure" (or .Values.insecure (not .Values.gateway.tls))
        "drain_grace_s" 30)
    "node" (dict
        "coordinator" (include "argus.coordinators" .)
        "metrics" "0.0.0.0:7423"
        "drain_grace_s" 60
        "reconnect_s" 600)
    "cache" (dict
        "folder" "/var/cache/argus"
        "disk_bytes" .Values.node.cache.diskBytes)
-}}
{{- if .Values.standby.enabled -}}
{{- $_ := set $config "standby" (dict "cluster" (printf "%s/%s" .Release.Namespace .Release.Name)) -}}
{{- end -}}
{{- if not .Values.insecure -}}
{{- $tls := dict
    "certificate" "/etc/argus/tls/tls.crt"
    "key" "/etc/argus/tls/tls.key"
    "ca" "/etc/argus/ca/ca.crt"
    "server_name" (include "argus.serverName" .)
-}}
{{- if .Values.tls.mutual -}}
{{- $_ := set $tls "client_ca" "/etc/argus/ca/ca.crt" -}}
{{- $_ := set $tls "client_certificate" "/etc/argus/tls/tls.crt" -}}
{{- $_ := set $tls "client_key" "/etc/argus/tls/tls.key" -}}
{{- end -}}
{{- $auth := dict "keys" "/etc/argus/keys/keys" "api_key_file" "/etc/argus/key/api.key" -}}
{{- if .Values.auth.tenants -}}
{{- $_ := set $auth "tenants" "/etc/argus/config/tenants.toml" -}}
{{- end -}}
{{- $_ := set $config "tls" $tls -}}
{{- $_ := set $config "auth" $auth -}}
{{- end -}}
{{- mustMergeOverwrite $config (deepCopy .Values.config) | toYaml -}}
{{- end -}}

{{/* Seconds until a component is killed: (list $ "node"). What it takes to end in good order, which
     argus/cli/coordinator.py bounds, and what comes before and after. */}}
{{- define "argus.terminationSeconds" -}}
{{- $section := index (include "argus.config" (index . 0) | fromYaml) (index . 1) -}}
{{- add (ceil $section.drain_grace_s | int) 20 -}}
{{- end -}}

{{- define "argus.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "argus.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* What all pods have in common, of .spec.template.spec: (list $ "node") */}}
{{- define "argus.podCommon" -}}
{{- $root := index . 0 -}}
{{- $part := index $root.Values (index . 1) -}}
serviceAccountName: {{ include "argus.serviceAccount" $root }}
automountServiceAccountToken: false
# Variables such as ARGUS_COORDINATOR_PORT, which Kubernetes makes up for Services, would be taken for
# settings that do not exist.
enableServiceLinks: false
terminationGracePeriodSeconds: {{ include "argus.terminationSeconds" . }}
securityContext:
  {{- include "argus.podSecurity" $root | nindent 2 }}
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $part.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
affinity:
{{- if $part.affinity }}
  {{- toYaml $part.affinity | nindent 2 }}
{{- else if eq (index . 1) "node" }}
  {}
{{- else }}
  # Two of a kind on one machine would go down together.
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "argus.selector" . | nindent 14 }}
{{- end }}
{{- end -}}

{{/* Annotations of a component's pods: (list $ "node"). A change of the settings starts them anew. */}}
{{- define "argus.podAnnotations" -}}
{{- $root := index . 0 -}}
checksum/config: {{ printf "%s%s" (include "argus.config" $root) $root.Values.auth.tenants | sha256sum }}
{{- with (index $root.Values (index . 1)).podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Volume mounts that components have in common: (list $ "node") */}}
{{- define "argus.mounts" -}}
{{- $root := index . 0 -}}
- name: config
  mountPath: /etc/argus/config
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- if not $root.Values.insecure }}
- name: ca
  mountPath: /etc/argus/ca
  readOnly: true
{{- if include "argus.certificate" . }}
- name: tls
  mountPath: /etc/argus/tls
  readOnly: true
{{- end }}
{{- if ne (index . 1) "node" }}
- name: keys
  mountPath: /etc/argus/keys
  readOnly: true
{{- end }}
{{- if ne (index . 1) "coordinator" }}
- name: key
  mountPath: /etc/argus/key
  readOnly: true
{{- end }}
{{- end }}
{{- end -}}

{{/* The volumes of those mounts: (list $ "node") */}}
{{- define "argus.volumes" -}}
{{- $root := index . 0 -}}
{{- $part := index . 1 -}}
- name: config
  configMap:
    name: {{ include "argus.fullname" $root }}
- name: tmp
  emptyDir: {}
{{- if not $root.Values.insecure }}
- name: ca
  secret:
    # Of this Secret only the public part.
    secretName: {{ include "argus.secret" (list $root $root.Values.tls.coordinatorSecret "coordinator-tls") }}
    defaultMode: 0440
    items:
      - {key: ca.crt, path: ca.crt}
{{- with include "argus.certificate" . }}
- name: tls
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- if ne $part "node" }}
- name: keys
  secret:
    secretName: {{ include "argus.secret" (list $root $root.Values.auth.keysSecret "keys") }}
    defaultMode: 0440
{{- end }}
{{- if eq $part "node" }}
- name: key
  secret:
    secretName: {{ include "argus.secret" (list $root $root.Values.auth.nodeKeySecret "node-key") }}
    defaultMode: 0440
{{- else if eq $part "gateway" }}
- name: key
  secret:
    secretName: {{ include "argus.secret" (list $root $root.Values.auth.gatewayKeySecret "gateway-key") }}
    defaultMode: 0440
{{- end }}
{{- end }}
{{- end -}}

{{/* Name of the Secret with a component's own certificate; nothing where it needs none: (list $ "node") */}}
{{- define "argus.certificate" -}}
{{- $root := index . 0 -}}
{{- $tls := $root.Values.tls -}}
{{- if $root.Values.insecure -}}
{{- else if eq (index . 1) "coordinator" -}}
{{- include "argus.secret" (list $root $tls.coordinatorSecret "coordinator-tls") -}}
{{- else if and (eq (index . 1) "gateway") (or $root.Values.gateway.tls $tls.mutual) -}}
{{- include "argus.secret" (list $root $tls.gatewaySecret "gateway-tls") -}}
{{- else if and (eq (index . 1) "node") $tls.mutual -}}
{{- include "argus.secret" (list $root $tls.nodeSecret "node-tls") -}}
{{- end -}}
{{- end -}}

{{/* Environment of a component's container: (list $ "node") */}}
{{- define "argus.environment" -}}
# The only place that can be written to, for those who want a home.
- name: HOME
  value: /tmp
- name: HF_HUB_OFFLINE
  value: "1"
{{- with (index (index . 0).Values (index . 1)).extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* How the coordinator is asked whether a service of it serves: (list $ "argus.v1.ClusterService").
     The kubelet's own gRPC probe knows no TLS, and nothing but SERVING is good enough for it, whereas
     a coordinator that stands by serves nothing and is well. */}}
{{- define "argus.coordinatorProbe" -}}
{{- $root := index . 0 -}}
{{- if and $root.Values.insecure (not $root.Values.standby.enabled) -}}
grpc:
  port: 7420
  service: {{ index . 1 | quote }}
timeoutSeconds: 5
{{- else -}}
exec:
  command:
    - argus
    - health
    - --server=127.0.0.1:7420
    - --service={{ index . 1 }}
    {{- if $root.Values.standby.enabled }}
    - --answers
    {{- end }}
    - --config=/etc/argus/config/argus.toml
timeoutSeconds: 15
{{- end -}}
{{- end -}}

{{/* Raises where values do not go together. */}}
{{- define "argus.check" -}}
{{- if and .Values.standby.enabled (not .Values.standby.existingSecret) -}}
{{- fail "standby.existingSecret: is needed with standby.enabled: a Secret with the PostgreSQL's connection string" -}}
{{- end -}}
{{- if and .Values.node.models.folders (not .Values.node.models.volume) -}}
{{- fail "node.models.volume: is needed where node.models.folders names folders" -}}
{{- end -}}
{{- if and .Values.gateway.ingress.enabled (not .Values.gateway.ingress.host) -}}
{{- fail "gateway.ingress.host: is needed with gateway.ingress.enabled" -}}
{{- end -}}
{{- end -}}
