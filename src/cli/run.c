/* knarr run: one container in a pod of its own. */
#include "cli/cli.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/proc.h"
#include "cri.pb-c.h"
#include "knarr.pb-c.h"
#include "spec/ref.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define ANNOTATION_NETWORK "io.knarr.network"

struct run_options {
	bool detach, auto_remove, read_only, privileged;
	const char *name, *network, *workdir, *user, *hostname, *pull, *entrypoint;
	char **env, **volumes, **ports, **labels, **cap_add, **cap_drop;
	int64_t memory_bytes, stop_timeout_s;
	const char *cpus;
	char **words;
	const char *image_id;
};

static int run_parse(struct cli *cli, char *const *argv, struct run_options *o, struct err *e)
{
	const struct opt opts[] = {
		{ OPT_FLAG, 'd', "detach", &o->detach, NULL, "Leave it running and print its ID" },
		{ OPT_FLAG, 0, "rm", &o->auto_remove, NULL, "Remove it once it has exited" },
		{ OPT_STR, 0, "name", &o->name, "NAME", "What to call it" },
		{ OPT_STRV, 'e', "env", &o->env, "KEY=VALUE", "Set a variable; KEY alone takes this shell's" },
		{ OPT_STRV, 'v', "volume", &o->volumes, "SRC:DST[:OPTIONS]", "Mount a host folder or file (ro, rw, rslave, rshared, noexec…)" },
		{ OPT_STRV, 'p', "publish", &o->ports, "[IP:]HOST:CONTAINER[/tcp]", "Publish a port on the host" },
		{ OPT_BYTES, 'm', "memory", &o->memory_bytes, "SIZE", "Memory limit: 512m, 1g" },
		{ OPT_STR, 0, "cpus", &o->cpus, "N", "CPU limit: 1.5" },
		{ OPT_STR, 0, "network", &o->network, "host|none|bridge", "The pod's network (default: bridge, by CNI)" },
		{ OPT_STR, 'w', "workdir", &o->workdir, "PATH", "Working folder inside" },
		{ OPT_STR, 'u', "user", &o->user, "UID|NAME", "User inside" },
		{ OPT_STR, 0, "hostname", &o->hostname, "NAME", "Host name inside" },
		{ OPT_STR, 0, "entrypoint", &o->entrypoint, "COMMAND", "Instead of the image's entrypoint" },
		{ OPT_STRV, 'l', "label", &o->labels, "KEY=VALUE", "Add a label" },
		{ OPT_STRV, 0, "cap-add", &o->cap_add, "CAP", "Add a capability" },
		{ OPT_STRV, 0, "cap-drop", &o->cap_drop, "CAP", "Drop a capability" },
		{ OPT_FLAG, 0, "read-only", &o->read_only, NULL, "The root file system is read-only" },
		{ OPT_FLAG, 0, "privileged", &o->privileged, NULL, "All capabilities and devices, no profile" },
		{ OPT_STR, 0, "pull", &o->pull, "missing|always|never", "When to fetch the image (default: missing)" },
		{ 0 },
	};
	int rc = cli_options(cli, "run", opts, OPTS_STOP_AT_WORD, argv, &o->words, e);

	if (rc)
		return rc;
	if (!o->words[0])
		return err_set(e, ERR_INVALID, "knarr run: which image? knarr run [OPTION…] IMAGE [COMMAND [ARG…]]");
	if (o->network && !streq(o->network, "host") && !streq(o->network, "none") && !streq(o->network, "bridge"))
		return err_set(e, ERR_INVALID, "--network \"%s\": host, none or bridge", o->network);
	if (o->pull && !streq(o->pull, "missing") && !streq(o->pull, "always") && !streq(o->pull, "never"))
		return err_set(e, ERR_INVALID, "--pull \"%s\": missing, always or never", o->pull);
	return 0;
}

/* The image's ID, pulled if it is not here. */
static int image_ready(struct cli *cli, struct run_options *o, struct err *e)
{
	Runtime__V1__ImageStatusRequest in = RUNTIME__V1__IMAGE_STATUS_REQUEST__INIT;
	Runtime__V1__ImageSpec spec = RUNTIME__V1__IMAGE_SPEC__INIT;
	Runtime__V1__ImageStatusResponse *out;

	spec.image = o->words[0];
	in.image = &spec;
	if (!o->pull || !streq(o->pull, "always")) {
		if (CRI_IMAGE(cli->client, cli->call, ImageStatus, image_status, &in, &out, e) < 0)
			return -1;
		if (out->image) {
			o->image_id = out->image->id;
			return 0;
		}
		if (o->pull && streq(o->pull, "never"))
			return err_set(e, ERR_NOT_FOUND, "image %s is not here, and --pull=never", o->words[0]);
	}
	return image_pull_shown(cli, o->words[0], &o->image_id, e);
}

/* --- from options to messages ---------------------------------------------------------------------- */

static void **pointers(struct arena *a, size_t n)
{
	return arena_newn0(a, void *, n + 1);
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
		return err_set(e, ERR_INVALID, "-p %s: it is [IP:]HOST:CONTAINER", text);
	left = (struct str){ rest.p, (size_t)(colon - rest.p) };
	rest = (struct str){ colon + 1, rest.len - left.len - 1 };
	colon = left.len ? memrchr(left.p, ':', left.len) : NULL;
	if (colon) {
		p->host_ip = arena_strndup(a, left.p, (size_t)(colon - left.p));
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
		return err_set(e, ERR_INVALID, "-v %s: it is SRC:DST[:OPTIONS], both absolute paths", text);
	m->host_path = str_dup(a, source);
	m->container_path = str_dup(a, target);
	while (rest.p)
		if (volume_option(str_cut(&rest, ','), text, m, e) < 0)
			return -1;
	if (access(m->host_path, F_OK) < 0)
		return err_sys(e, errno, "-v %s: %s", text, m->host_path);
	return 0;
}

static int env_of(struct arena *a, const char *text, Runtime__V1__KeyValue *kv, struct err *e)
{
	const char *equals = strchr(text, '='), *value = equals ? equals + 1 : getenv(text);

	runtime__v1__key_value__init(kv);
	if (equals == text)
		return err_set(e, ERR_INVALID, "-e %s: it is KEY=VALUE", text);
	kv->key = equals ? arena_strndup(a, text, (size_t)(equals - text)) : (char *)text;
	kv->value.data = (uint8_t *)(value ? value : "");
	kv->value.len = value ? strlen(value) : 0;
	return 0;
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

static int pod_config(struct cli *cli, const struct run_options *o, Runtime__V1__PodSandboxConfig *p, struct err *e)
{
	struct arena *a = cli->a;
	Runtime__V1__PodSandboxMetadata *meta = arena_new0(a, Runtime__V1__PodSandboxMetadata);
	Runtime__V1__LinuxSandboxSecurityContext *security = arena_new0(a, Runtime__V1__LinuxSandboxSecurityContext);
	char uid[ID_HEX_LEN + 1];

	runtime__v1__pod_sandbox_metadata__init(meta);
	id_new(uid);
	meta->name = (char *)o->name;
	meta->namespace_ = "user";
	meta->uid = arena_strndup(a, uid, 32);
	runtime__v1__pod_sandbox_config__init(p);
	p->metadata = meta;
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

static int security(struct arena *a, const struct run_options *o, Runtime__V1__LinuxContainerSecurityContext *s,
		    struct err *e)
{
	uint64_t uid;

	runtime__v1__linux_container_security_context__init(s);
	s->privileged = o->privileged;
	s->readonly_rootfs = o->read_only;
	s->namespace_options = namespaces(a, o);
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
	if (o->user && str_to_u64(str_of(o->user), &uid, e) == 0) {
		s->run_as_user = arena_new0(a, Runtime__V1__Int64Value);
		runtime__v1__int64_value__init(s->run_as_user);
		s->run_as_user->value = (int64_t)uid;
	} else if (o->user) {
		s->run_as_username = (char *)o->user;
	}
	return 0;
}

static int environment(struct arena *a, const struct run_options *o, Runtime__V1__ContainerConfig *k, struct err *e)
{
	k->n_envs = strv_len(o->env);
	k->envs = (Runtime__V1__KeyValue **)pointers(a, k->n_envs);
	for (size_t i = 0; i < k->n_envs; i++) {
		k->envs[i] = arena_new0(a, Runtime__V1__KeyValue);
		if (env_of(a, o->env[i], k->envs[i], e) < 0)
			return -1;
	}
	k->n_mounts = strv_len(o->volumes);
	k->mounts = (Runtime__V1__Mount **)pointers(a, k->n_mounts);
	for (size_t i = 0; i < k->n_mounts; i++) {
		k->mounts[i] = arena_new0(a, Runtime__V1__Mount);
		if (volume_of(a, o->volumes[i], k->mounts[i], e) < 0)
			return -1;
	}
	return 0;
}

static int container_config(struct cli *cli, const struct run_options *o, Runtime__V1__ContainerConfig *k,
			    struct err *e)
{
	struct arena *a = cli->a;

	runtime__v1__container_config__init(k);
	k->metadata = arena_new0(a, Runtime__V1__ContainerMetadata);
	runtime__v1__container_metadata__init(k->metadata);
	k->metadata->name = (char *)o->name;
	k->image = arena_new0(a, Runtime__V1__ImageSpec);
	runtime__v1__image_spec__init(k->image);
	k->image->image = (char *)o->image_id;
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
	return environment(a, o, k, e);
}

/* --- the run itself ----------------------------------------------------------------------------------- */

/* "PID" of the container's first process, from the status' info; "0" once it has exited. */
static char *container_pid(struct cli *cli, const Runtime__V1__ContainerStatusResponse *status)
{
	for (size_t i = 0; i < status->n_info; i++) {
		struct json *info;
		struct err ignored;
		const struct json *pid;

		if (json_parse(cli->a, str_of(status->info[i]->value), &info, &ignored) < 0)
			continue;
		pid = json_get(info, "pid");
		if (pid && pid->type == JSON_NUMBER)
			return str_dup(cli->a, pid->text);
	}
	return "0";
}

struct running {
	const char *pod_id, *container_id;
};

static int create(struct cli *cli, const struct run_options *o, struct running *r, struct err *e)
{
	Runtime__V1__RunPodSandboxRequest pod_in = RUNTIME__V1__RUN_POD_SANDBOX_REQUEST__INIT;
	Runtime__V1__CreateContainerRequest in = RUNTIME__V1__CREATE_CONTAINER_REQUEST__INIT;
	Runtime__V1__RunPodSandboxResponse *pod;
	Runtime__V1__CreateContainerResponse *container;
	Runtime__V1__PodSandboxConfig pod_cfg;
	Runtime__V1__ContainerConfig cfg;
	struct err ignored;

	if (pod_config(cli, o, &pod_cfg, e) < 0 || container_config(cli, o, &cfg, e) < 0)
		return -1;
	pod_in.config = &pod_cfg;
	if (CRI_RUNTIME(cli->client, cli->call, RunPodSandbox, run_pod_sandbox, &pod_in, &pod, e) < 0)
		return -1;
	r->pod_id = pod->pod_sandbox_id;
	in.pod_sandbox_id = pod->pod_sandbox_id;
	in.config = &cfg;
	in.sandbox_config = &pod_cfg;
	if (CRI_RUNTIME(cli->client, cli->call, CreateContainer, create_container, &in, &container, e) < 0) {
		(void)pod_remove(cli, r->pod_id, &ignored); /* the creation's error is the one to tell */
		return -1;
	}
	r->container_id = container->container_id;
	return 0;
}

/* docker's statuses for a command that could not be started. */
static int start_status(const struct err *e)
{
	if (e->kind == ERR_NOT_FOUND)
		return CLI_NOT_FOUND;
	return e->kind == ERR_DENIED ? CLI_NOT_EXECUTABLE : CLI_FAILED;
}

static int start(struct cli *cli, const struct running *r, struct err *e)
{
	Runtime__V1__StartContainerRequest in = RUNTIME__V1__START_CONTAINER_REQUEST__INIT;
	Runtime__V1__StartContainerResponse *out;

	in.container_id = (char *)r->container_id;
	return CRI_RUNTIME(cli->client, cli->call, StartContainer, start_container, &in, &out, e);
}

static void forward_signal(struct cli *cli, const struct running *r, int signal, unsigned times)
{
	Knarr__V1__KillContainerRequest in = KNARR__V1__KILL_CONTAINER_REQUEST__INIT;
	Knarr__V1__KillContainerResponse *out;
	struct err e;

	/* A first process without a handler of its own never sees SIGINT: asked twice, it is killed. */
	in.container_id = (char *)r->container_id;
	in.signal = (uint32_t)(times > 1 ? SIGKILL : signal);
	if (KNARR(cli->client, cli->call, KillContainer, kill_container, &in, &out, &e) < 0 && e.kind != ERR_STATE)
		fprintf(stderr, "knarr: %s\n", e.msg);
	if (times == 1 && isatty(STDERR_FILENO))
		fputs("\n(once more to kill it)\n", stderr);
}

struct follow {
	struct cli *cli;
	const struct running *r;
	struct log_reader *log;
	struct waiter *waiter;
	int signal_fd;
};

/* Shows the log as it grows and hands signals on, until the exit. */
static int follow(struct follow *f, struct err *e)
{
	unsigned times = 0;

	for (;;) {
		struct pollfd fds[] = { { .fd = f->signal_fd, .events = POLLIN },
					{ .fd = waiter_fd(f->waiter), .events = POLLIN } };
		struct signalfd_siginfo info;

		/* 20 ms of delay at most; the file is read once more after the exit. */
		if (log_reader_copy(f->log, e) < 0 || io_poll(f->cli->call, fds, 2, 20, e) < 0)
			return -1;
		if (fds[0].revents && read(f->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
			forward_signal(f->cli, f->r, (int)info.ssi_signo, ++times);
		if (fds[1].revents)
			return log_reader_copy(f->log, e) < 0 ? -1 : 0;
	}
}

static int attend(struct cli *cli, const struct running *r, int signal_fd, struct err *e)
{
	Runtime__V1__ContainerStatusRequest in = RUNTIME__V1__CONTAINER_STATUS_REQUEST__INIT;
	Runtime__V1__ContainerStatusResponse *status;
	struct follow f = { .cli = cli, .r = r, .signal_fd = signal_fd };
	struct log_reader log;
	struct waited end = { 0 };
	int rc;

	in.container_id = (char *)r->container_id;
	if (CRI_RUNTIME(cli->client, cli->call, ContainerStatus, container_status, &in, &status, e) < 0 ||
	    log_reader_open(&log, status->status->log_path, e) < 0)
		return -1;
	f.log = &log;
	rc = waiter_start(cli, r->container_id, &f.waiter, e);
	if (rc == 0) {
		rc = follow(&f, e);
		if (rc == 0)
			rc = waiter_result(f.waiter, cli->call, &end, e);
		if (rc == 0 && end.reason && streq(end.reason, "OOMKilled"))
			fputs("knarr: the container was killed: it used more memory than its limit\n", stderr);
		waiter_end(f.waiter);
	}
	log_reader_close(&log);
	return rc < 0 ? -1 : end.exit_code;
}

static int signals_to_fd(struct err *e)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGQUIT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? err_sys(e, errno, "signalfd") : fd;
}

static int name_is_free(struct cli *cli, const char *name, struct err *e)
{
	struct found *all;
	size_t n;

	if (cli_containers(cli, &all, &n, e) < 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		if (streq(all[i].name, name))
			return err_set(e, ERR_EXISTS, "a container is already called \"%s\" (%s); knarr rm %s removes it",
				       name, text_short_id(cli->a, all[i].id), name);
	return 0;
}

/* -d --rm: no daemon needs to run meanwhile, so a `knarr rm` of our own waits for the exit, by pidfd. */
static int remove_later(struct cli *cli, const struct running *r, struct err *e)
{
	Runtime__V1__ContainerStatusRequest in = RUNTIME__V1__CONTAINER_STATUS_REQUEST__INIT;
	Runtime__V1__ContainerStatusResponse *status;
	char *argv[9], *pid;
	struct proc_spec spec = PROC_SPEC_INIT;
	struct proc proc;
	size_t n = 0;

	in.container_id = (char *)r->container_id;
	in.verbose = true;
	if (CRI_RUNTIME(cli->client, cli->call, ContainerStatus, container_status, &in, &status, e) < 0)
		return -1;
	pid = container_pid(cli, status);
	argv[n++] = "knarr";
	if (cli->settings.socket) {
		argv[n++] = "--socket";
		argv[n++] = (char *)cli->settings.socket;
	}
	if (cli->settings.config) {
		argv[n++] = "--config";
		argv[n++] = (char *)cli->settings.config;
	}
	argv[n++] = "rm";
	argv[n++] = arena_printf(cli->a, "--after-exit=%s", pid);
	argv[n++] = (char *)r->container_id;
	argv[n] = NULL;
	spec.file = "/proc/self/exe";
	spec.argv = argv;
	spec.envp = environ;
	spec.flags = PROC_NEW_SESSION;
	if (proc_spawn(&spec, &proc, e) < 0)
		return err_in(e, "--rm");
	fd_close(&proc.pidfd);
	return 0;
}

static int run_attended(struct cli *cli, const struct run_options *o, const struct running *r, int signal_fd,
			struct err *e)
{
	struct err ignored;
	int rc = attend(cli, r, signal_fd, e);

	if (o->auto_remove)
		(void)pod_remove(cli, r->pod_id, rc < 0 ? &ignored : e);
	return rc;
}

int verb_run(struct cli *cli, char *const *argv, struct err *e)
{
	struct run_options o = { 0 };
	auto_fd int signal_fd = -1;
	char random[ID_HEX_LEN + 1];
	struct err ignored;
	struct running r;
	int rc = run_parse(cli, argv, &o, e);

	if (rc)
		return rc < 0 ? -1 : 0;
	id_new(random);
	if (cli_connect(cli, e) < 0 || (o.name && name_is_free(cli, o.name, e) < 0))
		return -1;
	if (!o.name)
		o.name = arena_strndup(cli->a, random, 12);
	if (image_ready(cli, &o, e) < 0)
		return -1;
	signal_fd = signals_to_fd(e);
	if (signal_fd < 0 || create(cli, &o, &r, e) < 0)
		return -1;
	if (start(cli, &r, e) < 0) {
		(void)pod_remove(cli, r.pod_id, &ignored); /* the start's error is the one to tell */
		fprintf(stderr, "knarr: %s\n", e->msg);
		return start_status(e);
	}
	if (o.detach) {
		puts(r.container_id);
		return o.auto_remove ? remove_later(cli, &r, e) : 0;
	}
	return run_attended(cli, &o, &r, signal_fd, e);
}
