#include "cri/parts.h"

#include <signal.h>

void *message_new(struct arena *a, const ProtobufCMessageDescriptor *type)
{
	void *m = arena_alloc0(a, type->sizeof_message);

	protobuf_c_message_init(type, m);
	return m;
}

int require(const char *text, const char *field, struct err *e)
{
	return str_is_empty(text) ? err_set(e, ERR_INVALID, "%s is empty", field) : 0;
}

struct json_map map_in(struct arena *a, size_t n, void *entries)
{
	struct map_entry *const *in = entries;
	struct json_pair *pairs = arena_newn0(a, struct json_pair, n + 1);

	for (size_t i = 0; i < n; i++)
		pairs[i] = (struct json_pair){ in[i]->key, in[i]->value };
	return n > 0 ? (struct json_map){ pairs, n } : (struct json_map){ 0 };
}

char **strv_in(struct arena *a, size_t n, char *const *texts)
{
	char **v = arena_newn0(a, char *, n + 1);

	if (n > 0)
		memcpy(v, texts, n * sizeof(*v));
	return n > 0 ? v : NULL;
}

int64_t *int64_in(struct arena *a, const CRI_T(Int64Value) *in)
{
	return in ? arena_memdup(a, &in->value, sizeof(in->value)) : NULL;
}

struct json_vec groups_in(struct arena *a, size_t n, const int64_t *groups)
{
	if (n == 0)
		return (struct json_vec){ 0 };
	return (struct json_vec){ arena_memdup(a, groups, n * sizeof(*groups)), n };
}

struct json_vec idmaps_in(struct arena *a, size_t n, CRI_T(IDMapping) *const *in)
{
	struct config_id_map *maps = arena_newn0(a, struct config_id_map, n + 1);

	for (size_t i = 0; i < n; i++)
		maps[i] = (struct config_id_map){ in[i]->host_id, in[i]->container_id, in[i]->length };
	return n > 0 ? (struct json_vec){ maps, n } : (struct json_vec){ 0 };
}

static int mode_in(CRI_T(NamespaceMode) mode, const char *field, enum config_namespace *out, struct err *e)
{
	if ((unsigned)mode > CONFIG_NS_TARGET)
		return err_set(e, ERR_INVALID, "namespace_options.%s: unknown mode %d", field, (int)mode);
	*out = (enum config_namespace)mode;
	return 0;
}

/* kubelet gives one range each, and CRI promises no more to others. */
static int map_check(const struct json_vec *maps, const char *field, struct err *e)
{
	const struct config_id_map *m = maps->p;

	if (maps->count != 1)
		return err_set(e, ERR_INVALID, "namespace_options.userns_options.%s: %zu mappings; it must be one", field,
			       maps->count);
	if (m->container_id != 0)
		return err_set(e, ERR_INVALID, "namespace_options.userns_options.%s: the container's 0 is not mapped", field);
	if (m->length == 0 || m->length > UINT32_MAX - m->host_id)
		return err_set(e, ERR_INVALID, "namespace_options.userns_options.%s: no %u ids begin at %u", field, m->length,
			       m->host_id);
	return 0;
}

static int userns_check(const struct config_userns *u, struct err *e)
{
	if (u->mode == CONFIG_NS_NODE) {
		if (u->uids.count || u->gids.count)
			return err_set(e, ERR_INVALID, "namespace_options.userns_options: mappings with the mode NODE");
		return 0;
	}
	if (u->mode != CONFIG_NS_POD)
		return err_set(e, ERR_INVALID, "namespace_options.userns_options.mode: only POD and NODE are possible");
	return map_check(&u->uids, "uids", e) < 0 || map_check(&u->gids, "gids", e) < 0 ? -1 : 0;
}

int namespaces_in(struct arena *a, const CRI_T(NamespaceOption) *in, struct config_namespaces *out, struct err *e)
{
	struct config_namespaces ns = { 0 };

	if (!in) {
		*out = ns;
		return 0;
	}
	if (mode_in(in->network, "network", &ns.network, e) < 0 || mode_in(in->pid, "pid", &ns.pid, e) < 0 ||
	    mode_in(in->ipc, "ipc", &ns.ipc, e) < 0)
		return -1;
	if (ns.network == CONFIG_NS_CONTAINER || ns.network == CONFIG_NS_TARGET)
		return err_set(e, ERR_INVALID, "namespace_options.network: only POD and NODE are possible");
	if (ns.ipc == CONFIG_NS_CONTAINER || ns.ipc == CONFIG_NS_TARGET)
		return err_set(e, ERR_INVALID, "namespace_options.ipc: only POD and NODE are possible");
	if (ns.pid == CONFIG_NS_TARGET && str_is_empty(in->target_id))
		return err_set(e, ERR_INVALID, "namespace_options.target_id is empty");
	ns.target_id = text_in(in->target_id);
	if (in->userns_options) {
		ns.userns = arena_new0(a, struct config_userns);
		if (mode_in(in->userns_options->mode, "userns_options", &ns.userns->mode, e) < 0)
			return -1;
		ns.userns->uids = idmaps_in(a, in->userns_options->n_uids, in->userns_options->uids);
		ns.userns->gids = idmaps_in(a, in->userns_options->n_gids, in->userns_options->gids);
		if (userns_check(ns.userns, e) < 0)
			return -1;
	}
	*out = ns;
	return 0;
}

struct config_selinux *selinux_in(struct arena *a, const CRI_T(SELinuxOption) *in)
{
	struct config_selinux *out;

	if (!in)
		return NULL;
	out = arena_new0(a, struct config_selinux);
	*out = (struct config_selinux){ text_in(in->user), text_in(in->role), text_in(in->type),
					text_in(in->level) };
	return out;
}

/* The texts that kubelets before 1.19 (seccomp) and 1.30 (AppArmor) sent. */
static int old_profile(const char *text, const char *field, struct config_profile *out, struct err *e)
{
	if (streq(text, "runtime/default") || streq(text, "docker/default")) {
		out->type = CONFIG_PROFILE_DEFAULT;
	} else if (streq(text, "unconfined")) {
		out->type = CONFIG_PROFILE_UNCONFINED;
	} else if (starts_with(text, "localhost/") && text[strlen("localhost/")]) {
		out->type = CONFIG_PROFILE_LOCALHOST;
		out->localhost = (char *)text + strlen("localhost/");
	} else {
		return err_set(e, ERR_INVALID, "%s: \"%s\" is no profile", field, text);
	}
	return 0;
}

int profile_in(struct arena *a, const CRI_T(SecurityProfile) *in, const char *path, const char *field,
	       struct config_profile **out, struct err *e)
{
	struct config_profile *p = arena_new0(a, struct config_profile);

	*out = NULL;
	if (!in && str_is_empty(path))
		return 0;
	if (!in) {
		if (old_profile(path, field, p, e) < 0)
			return -1;
		*out = p;
		return 0;
	}
	if ((unsigned)in->profile_type > CONFIG_PROFILE_LOCALHOST)
		return err_set(e, ERR_INVALID, "%s.profile_type: unknown type %d", field, (int)in->profile_type);
	p->type = (enum config_profile_type)in->profile_type;
	p->localhost = text_in(in->localhost_ref);
	if (p->type == CONFIG_PROFILE_LOCALHOST && !p->localhost)
		return err_set(e, ERR_INVALID, "%s.localhost_ref is empty", field);
	if (p->type != CONFIG_PROFILE_LOCALHOST && p->localhost)
		return err_set(e, ERR_INVALID, "%s.localhost_ref \"%s\" without profile_type Localhost", field,
			       p->localhost);
	*out = p;
	return 0;
}

struct config_resources *resources_in(struct arena *a, const CRI_T(LinuxContainerResources) *in)
{
	struct config_resources *r;
	struct config_hugepage *pages;

	if (!in)
		return NULL;
	r = arena_new0(a, struct config_resources);
	pages = arena_newn0(a, struct config_hugepage, in->n_hugepage_limits + 1);
	for (size_t i = 0; i < in->n_hugepage_limits; i++)
		pages[i] = (struct config_hugepage){ text_in(in->hugepage_limits[i]->page_size),
						     in->hugepage_limits[i]->limit };
	*r = (struct config_resources){
		.cpu_period_us = in->cpu_period, .cpu_quota_us = in->cpu_quota, .cpu_shares = in->cpu_shares,
		.memory_bytes = in->memory_limit_in_bytes, .memory_swap_bytes = in->memory_swap_limit_in_bytes,
		.oom_score_adj = in->oom_score_adj, .cpuset_cpus = text_in(in->cpuset_cpus),
		.cpuset_mems = text_in(in->cpuset_mems), .unified = map_in(a, in->n_unified, in->unified),
	};
	if (in->n_hugepage_limits > 0)
		r->hugepages = (struct json_vec){ pages, in->n_hugepage_limits };
	return r;
}

const struct pod_filter *pod_filter_in(struct arena *a, const CRI_T(PodSandboxFilter) *in)
{
	struct pod_filter_in *f = arena_new0(a, struct pod_filter_in);

	if (!in)
		return &f->filter;
	f->filter.id = text_in(in->id);
	if (in->state) {
		f->ready = in->state->state == RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY;
		f->filter.ready = &f->ready;
	}
	f->labels = map_in(a, in->n_label_selector, in->label_selector);
	if (f->labels.count > 0)
		f->filter.labels = &f->labels;
	return &f->filter;
}

const struct container_filter *container_filter_in(struct arena *a, const CRI_T(ContainerFilter) *in)
{
	static const enum container_state states[] = {
		[RUNTIME__V1__CONTAINER_STATE__CONTAINER_CREATED] = CONTAINER_CREATED,
		[RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING] = CONTAINER_RUNNING,
		[RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED] = CONTAINER_EXITED,
		[RUNTIME__V1__CONTAINER_STATE__CONTAINER_UNKNOWN] = CONTAINER_UNKNOWN,
	};
	struct container_filter *f = arena_new0(a, struct container_filter);
	struct json_map *labels = arena_new0(a, struct json_map);

	if (!in)
		return f;
	f->id = text_in(in->id);
	f->pod_id = text_in(in->pod_sandbox_id);
	if (in->state)
		f->state = &states[MIN((unsigned)in->state->state, ARRAY_SIZE(states) - 1)];
	*labels = map_in(a, in->n_label_selector, in->label_selector);
	if (labels->count > 0)
		f->labels = labels;
	return f;
}

/* In CRI's order. Where two names mean one number, the way back is the first. */
static const int signal_numbers[] = {
	0, SIGABRT, SIGALRM, SIGBUS, SIGCHLD, SIGCHLD, SIGCONT, SIGFPE, SIGHUP, SIGILL, SIGINT, SIGIO, SIGABRT,
	SIGKILL, SIGPIPE, SIGIO, SIGPROF, SIGPWR, SIGQUIT, SIGSEGV, SIGSTKFLT, SIGSTOP, SIGSYS, SIGTERM, SIGTRAP,
	SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGUSR1, SIGUSR2, SIGVTALRM, SIGWINCH, SIGXCPU, SIGXFSZ,
};
/* Then come the real-time ones, from what users know as SIGRTMIN. */
enum { CRI_RTMIN = ARRAY_SIZE(signal_numbers), KERNEL_RTMIN = 34, KERNEL_RTMAX = 64,
       CRI_RTMAX = CRI_RTMIN + KERNEL_RTMAX - KERNEL_RTMIN };

int signal_in(CRI_T(Signal) s)
{
	int n = (int)s;

	if (n >= CRI_RTMIN && n <= CRI_RTMAX)
		return n - CRI_RTMIN + KERNEL_RTMIN;
	return n > 0 && n < CRI_RTMIN ? signal_numbers[n] : 0;
}

CRI_T(Signal) signal_out(int number)
{
	if (number >= KERNEL_RTMIN && number <= KERNEL_RTMAX)
		return (CRI_T(Signal))(number - KERNEL_RTMIN + CRI_RTMIN);
	for (int i = 1; number > 0 && i < CRI_RTMIN; i++) {
		if (signal_numbers[i] == number)
			return (CRI_T(Signal))i;
	}
	return RUNTIME__V1__SIGNAL__SIGNAL_RUNTIME_DEFAULT;
}
