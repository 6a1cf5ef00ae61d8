/* knarr run: from options to the CRI's messages. Pure but for the environment and the mounts' sources. */
#include "cli/run.h"

#include "base/fs.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define ANNOTATION_NETWORK "io.knarr.network"

static void **pointers(struct arena *a, size_t n)
{
	return arena_newn0(a, void *, n + 1);
}

/* An address as the plugins want it: "[::1]" loses its brackets. */
static int address_of(struct arena *a, char **ip)
{
	size_t n = strlen(*ip);
	char bytes[16];

	if (n > 2 && (*ip)[0] == '[' && (*ip)[n - 1] == ']')
		*ip = arena_strndup(a, *ip + 1, n - 2);
	return inet_pton(AF_INET, *ip, bytes) == 1 || inet_pton(AF_INET6, *ip, bytes) == 1 ? 0 : -1;
}

static int port_of(struct arena *a, const char *text, Runtime__V1__PortMapping *p, struct err *e)
{
	struct str rest = str_of(text), protocol, left;
	const char *slash = strrchr(text, '/'), *colon;
	int64_t host, container;

	runtime__v1__port_mapping__init(p);
	if (slash) {
		protocol = str_of(slash + 1);
		rest.len = (size_t)(slash - text);
		if (str_eqz(protocol, "udp"))
			p->protocol = RUNTIME__V1__PROTOCOL__UDP;
		else if (str_eqz(protocol, "sctp"))
			p->protocol = RUNTIME__V1__PROTOCOL__SCTP;
		else if (!str_eqz(protocol, "tcp"))
			return err_set(e, ERR_INVALID, "-p %s: the protocol is tcp, udp or sctp", text);
	}
	colon = memrchr(rest.p, ':', rest.len);
	if (!colon)
		return err_set(e, ERR_INVALID, "-p %s: it is [IP:]HOST:CONTAINER[/tcp|udp|sctp]", text);
	left = (struct str){ rest.p, (size_t)(colon - rest.p) };
	rest = (struct str){ colon + 1, rest.len - left.len - 1 };
	colon = left.len ? memrchr(left.p, ':', left.len) : NULL;
	if (colon) {
		p->host_ip = arena_strndup(a, left.p, (size_t)(colon - left.p));
		if (address_of(a, &p->host_ip) < 0)
			return err_set(e, ERR_INVALID, "-p %s: %s is no IP address", text, p->host_ip);
		left = (struct str){ colon + 1, left.len - (size_t)(colon + 1 - left.p) };
	}
	if (str_to_i64(left, &host, e) < 0 || str_to_i64(rest, &container, e) < 0)
		return err_in(e, "-p %s", text);
	if (host < 1 || host > 65535 || container < 1 || container > 65535)
		return err_set(e, ERR_INVALID, "-p %s: a port is 1 to 65535", text);
	p->host_port = (int32_t)host;
	p->container_port = (int32_t)container;
	return 0;
}

static int volume_option(struct str option, const char *text, Runtime__V1__Mount *m, struct err *e)
{
	if (str_eqz(option, "ro"))
		m->readonly = true;
	else if (str_eqz(option, "rslave") || str_eqz(option, "slave"))
		m->propagation = RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_HOST_TO_CONTAINER;
	else if (str_eqz(option, "rshared") || str_eqz(option, "shared"))
		m->propagation = RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_BIDIRECTIONAL;
	else if (str_eqz(option, "z") || str_eqz(option, "Z"))
		m->selinux_relabel = true;
	else if (!str_eqz(option, "rw") && !str_eqz(option, "rprivate") && !str_eqz(option, "private"))
		return err_set(e, ERR_INVALID, "-v %s: unknown option \"%.*s\"", text, STR_ARG(option));
	return 0;
}

static int volume_of(struct arena *a, const char *text, Runtime__V1__Mount *m, struct err *e)
{
	struct str rest = str_of(text), source = str_cut(&rest, ':'), target = str_cut(&rest, ':');

	runtime__v1__mount__init(m);
	if (!target.p || !source.len || !target.len || source.p[0] != '/' || target.p[0] != '/')
		return err_set(e, ERR_INVALID, "-v %s: it is SRC:DST[:OPTIONS], both absolute paths (a name is no volume here)", text);
	m->host_path = str_dup(a, source);
	m->container_path = str_dup(a, target);
	while (rest.p)
		if (volume_option(str_cut(&rest, ','), text, m, e) < 0)
			return -1;
	if (access(m->host_path, F_OK) < 0)
		return err_sys(e, errno, "-v %s: make it first: %s", text, m->host_path);
	return 0;
}

/* 0: this shell has no such variable, so the container gets none. */
static int env_of(struct arena *a, const char *text, Runtime__V1__KeyValue *kv, struct err *e)
{
	const char *equals = strchr(text, '='), *value = equals ? equals + 1 : getenv(text);

	runtime__v1__key_value__init(kv);
	if (equals == text)
		return err_set(e, ERR_INVALID, "-e %s: it is KEY=VALUE", text);
	if (!value)
		return 0;
	kv->key = equals ? arena_strndup(a, text, (size_t)(equals - text)) : (char *)text;
	kv->value.data = (uint8_t *)value;
	kv->value.len = strlen(value);
	return 1;
}

static int cpu_quota(const char *text, Runtime__V1__LinuxContainerResources *r, struct err *e)
{
	char *end;
	double cpus = strtod(text, &end);

	if (end == text || *end || !(cpus >= 0.01) || cpus > 100000)
		return err_set(e, ERR_INVALID, "--cpus \"%s\": a number such as 1.5", text);
	r->cpu_period = 100000;
	r->cpu_quota = (int64_t)(cpus * 100000);
	return 0;
}

static Runtime__V1__NamespaceOption *namespaces(struct arena *a, const struct run_options *o)
{
	Runtime__V1__NamespaceOption *n = arena_new0(a, Runtime__V1__NamespaceOption);

	runtime__v1__namespace_option__init(n);
	n->network = o->network && streq(o->network, "host") ? RUNTIME__V1__NAMESPACE_MODE__NODE :
		RUNTIME__V1__NAMESPACE_MODE__POD;
	n->pid = RUNTIME__V1__NAMESPACE_MODE__CONTAINER;
	return n;
}

int run_pod_config(struct arena *a, const struct run_options *o, Runtime__V1__PodSandboxConfig *p, struct err *e)
{
	Runtime__V1__PodSandboxMetadata *meta = arena_new0(a, Runtime__V1__PodSandboxMetadata);
	Runtime__V1__LinuxSandboxSecurityContext *security = arena_new0(a, Runtime__V1__LinuxSandboxSecurityContext);
	char uid[ID_HEX_LEN + 1];

	runtime__v1__pod_sandbox_metadata__init(meta);
	id_new(uid);
	meta->name = (char *)o->name;
	meta->namespace_ = USER_NAMESPACE;
	meta->uid = arena_strndup(a, uid, 32);
	runtime__v1__pod_sandbox_config__init(p);
	p->metadata = meta;
	if (o->network && (streq(o->network, "host") || streq(o->network, "none")) && o->ports)
		return err_set(e, ERR_INVALID, "-p needs a network of the container's own, not --network %s", o->network);
	if (o->network && streq(o->network, "host") && o->hostname)
		return err_set(e, ERR_INVALID, "--hostname cannot be had with --network host: the name is the host's");
	if (!o->network || !streq(o->network, "host"))
		p->hostname = (char *)(o->hostname ? o->hostname : arena_strndup(a, uid, 12));
	p->n_port_mappings = strv_len(o->ports);
	p->port_mappings = (Runtime__V1__PortMapping **)pointers(a, p->n_port_mappings);
	for (size_t i = 0; i < p->n_port_mappings; i++) {
		p->port_mappings[i] = arena_new0(a, Runtime__V1__PortMapping);
		if (port_of(a, o->ports[i], p->port_mappings[i], e) < 0)
			return -1;
	}
	if (o->network && streq(o->network, "none")) {
		Runtime__V1__PodSandboxConfig__AnnotationsEntry *n =
			arena_new0(a, Runtime__V1__PodSandboxConfig__AnnotationsEntry);

		runtime__v1__pod_sandbox_config__annotations_entry__init(n);
		n->key = ANNOTATION_NETWORK;
		n->value = "none";
		p->annotations = (Runtime__V1__PodSandboxConfig__AnnotationsEntry **)pointers(a, 1);
		p->annotations[0] = n;
		p->n_annotations = 1;
	}
	p->linux = arena_new0(a, Runtime__V1__LinuxPodSandboxConfig);
	runtime__v1__linux_pod_sandbox_config__init(p->linux);
	runtime__v1__linux_sandbox_security_context__init(security);
	security->namespace_options = namespaces(a, o);
	security->privileged = o->privileged;
	p->linux->security_context = security;
	return 0;
}

static void label_add(struct arena *a, Runtime__V1__ContainerConfig *k, const char *key, const char *value)
{
	Runtime__V1__ContainerConfig__LabelsEntry *l = arena_new0(a, Runtime__V1__ContainerConfig__LabelsEntry);

	runtime__v1__container_config__labels_entry__init(l);
	l->key = (char *)key;
	l->value = (char *)value;
	k->labels[k->n_labels++] = l;
}

static int labels(struct arena *a, const struct run_options *o, Runtime__V1__ContainerConfig *k, struct err *e)
{
	k->labels = (Runtime__V1__ContainerConfig__LabelsEntry **)pointers(a, strv_len(o->labels) + 2);
	label_add(a, k, LABEL_NAME, o->name);
	if (o->auto_remove)
		label_add(a, k, LABEL_AUTO_REMOVE, "true");
	for (size_t i = 0; o->labels && o->labels[i]; i++) {
		const char *equals = strchr(o->labels[i], '=');

		if (!equals || equals == o->labels[i])
			return err_set(e, ERR_INVALID, "-l %s: it is KEY=VALUE", o->labels[i]);
		label_add(a, k, arena_strndup(a, o->labels[i], (size_t)(equals - o->labels[i])), equals + 1);
	}
	return 0;
}

static Runtime__V1__Int64Value *number(struct arena *a, int64_t value)
{
	Runtime__V1__Int64Value *v = arena_new0(a, Runtime__V1__Int64Value);

	runtime__v1__int64_value__init(v);
	v->value = value;
	return v;
}

/* "UID", "NAME", each with ":GID". The CRI has no word for a group by name. */
static int user_of(struct arena *a, const char *text, Runtime__V1__LinuxContainerSecurityContext *s, struct err *e)
{
	struct str group = str_of(text), user = str_cut(&group, ':');
	int64_t id;

	if (!user.len || (group.p && !group.len))
		return err_set(e, ERR_INVALID, "-u \"%s\": it is UID or NAME, and :GID after it if wished", text);
	if (str_to_i64(user, &id, e) < 0)
		s->run_as_username = str_dup(a, user);
	else if (id < 0 || id > UINT32_MAX - 1)
		return err_set(e, ERR_INVALID, "-u %s: a user ID is 0 to 4294967294", text);
	else
		s->run_as_user = number(a, id);
	if (!group.p)
		return 0;
	if (str_to_i64(group, &id, e) < 0 || id < 0 || id > UINT32_MAX - 1)
		return err_set(e, ERR_INVALID, "-u %s: the group is given by its number", text);
	s->run_as_group = number(a, id);
	return 0;
}

/* What of /proc and /sys is hidden or read-only: in the CRI the caller says it, as kubelet does. */
static void hide(Runtime__V1__LinuxContainerSecurityContext *s)
{
	static char *masked[] = {
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
		"/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
		"/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
	};
	static char *readonly[] = {
		"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
	};

	s->n_masked_paths = ARRAY_SIZE(masked);
	s->masked_paths = masked;
	s->n_readonly_paths = ARRAY_SIZE(readonly);
	s->readonly_paths = readonly;
}

static int security(struct arena *a, const struct run_options *o, Runtime__V1__LinuxContainerSecurityContext *s,
		    struct err *e)
{
	runtime__v1__linux_container_security_context__init(s);
	s->privileged = o->privileged;
	s->readonly_rootfs = o->read_only;
	s->namespace_options = namespaces(a, o);
	if (!o->privileged)
		hide(s);
	s->seccomp = arena_new0(a, Runtime__V1__SecurityProfile);
	runtime__v1__security_profile__init(s->seccomp);
	s->seccomp->profile_type = o->privileged ? RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__Unconfined :
		RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__RuntimeDefault;
	s->capabilities = arena_new0(a, Runtime__V1__Capability);
	runtime__v1__capability__init(s->capabilities);
	s->capabilities->n_add_capabilities = strv_len(o->cap_add);
	s->capabilities->add_capabilities = o->cap_add;
	s->capabilities->n_drop_capabilities = strv_len(o->cap_drop);
	s->capabilities->drop_capabilities = o->cap_drop;
	return o->user ? user_of(a, o->user, s, e) : 0;
}

static int environment(struct arena *a, const struct run_options *o, Runtime__V1__ContainerConfig *k, struct err *e)
{
	k->envs = (Runtime__V1__KeyValue **)pointers(a, strv_len(o->env));
	for (size_t i = 0; o->env && o->env[i]; i++) {
		Runtime__V1__KeyValue *kv = arena_new0(a, Runtime__V1__KeyValue);
		int rc = env_of(a, o->env[i], kv, e);

		if (rc < 0)
			return -1;
		if (rc)
			k->envs[k->n_envs++] = kv;
	}
	return 0;
}

static int volumes(struct arena *a, const struct run_options *o, Runtime__V1__ContainerConfig *k, struct err *e)
{
	k->n_mounts = strv_len(o->volumes);
	k->mounts = (Runtime__V1__Mount **)pointers(a, k->n_mounts);
	for (size_t i = 0; i < k->n_mounts; i++) {
		k->mounts[i] = arena_new0(a, Runtime__V1__Mount);
		if (volume_of(a, o->volumes[i], k->mounts[i], e) < 0)
			return -1;
	}
	return 0;
}

int run_container_config(struct arena *a, const struct run_options *o, Runtime__V1__ContainerConfig *k,
			 struct err *e)
{
	runtime__v1__container_config__init(k);
	k->metadata = arena_new0(a, Runtime__V1__ContainerMetadata);
	runtime__v1__container_metadata__init(k->metadata);
	k->metadata->name = (char *)o->name;
	k->image = arena_new0(a, Runtime__V1__ImageSpec);
	runtime__v1__image_spec__init(k->image);
	k->image->user_specified_image = o->words[0];
	k->args = o->words + 1;
	k->n_args = strv_len(k->args);
	if (o->entrypoint) {
		k->command = (char **)pointers(a, 1);
		k->command[0] = (char *)o->entrypoint;
		k->n_command = 1;
	}
	k->working_dir = (char *)(o->workdir ? o->workdir : "");
	k->log_path = "0.log";
	k->tty = o->terminal;
	k->stdin = o->interactive;
	k->stdin_once = o->interactive && !o->detach; /* this command's, whose end of input is the container's */
	k->linux = arena_new0(a, Runtime__V1__LinuxContainerConfig);
	runtime__v1__linux_container_config__init(k->linux);
	k->linux->resources = arena_new0(a, Runtime__V1__LinuxContainerResources);
	runtime__v1__linux_container_resources__init(k->linux->resources);
	k->linux->resources->memory_limit_in_bytes = o->memory_bytes;
	k->linux->security_context = arena_new0(a, Runtime__V1__LinuxContainerSecurityContext);
	if (o->cpus && cpu_quota(o->cpus, k->linux->resources, e) < 0)
		return -1;
	if (security(a, o, k->linux->security_context, e) < 0 || labels(a, o, k, e) < 0)
		return -1;
	return environment(a, o, k, e) < 0 || volumes(a, o, k, e) < 0 ? -1 : 0;
}
