#include "runtime/plan.h"

#include "base/log.h"
#include "base/map.h"
#include "base/str.h"

#include <stdlib.h>

static int rlimits_of(struct arena *a, const struct oci_process *p, struct plan_process *out, struct err *e)
{
	static const struct {
		const char *name;
		int resource;
	} known[] = {
		{ "RLIMIT_AS", RLIMIT_AS }, { "RLIMIT_CORE", RLIMIT_CORE }, { "RLIMIT_CPU", RLIMIT_CPU },
		{ "RLIMIT_DATA", RLIMIT_DATA }, { "RLIMIT_FSIZE", RLIMIT_FSIZE },
		{ "RLIMIT_LOCKS", RLIMIT_LOCKS }, { "RLIMIT_MEMLOCK", RLIMIT_MEMLOCK },
		{ "RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE }, { "RLIMIT_NICE", RLIMIT_NICE },
		{ "RLIMIT_NOFILE", RLIMIT_NOFILE }, { "RLIMIT_NPROC", RLIMIT_NPROC },
		{ "RLIMIT_RSS", RLIMIT_RSS }, { "RLIMIT_RTPRIO", RLIMIT_RTPRIO },
		{ "RLIMIT_RTTIME", RLIMIT_RTTIME }, { "RLIMIT_SIGPENDING", RLIMIT_SIGPENDING },
		{ "RLIMIT_STACK", RLIMIT_STACK },
	};
	struct plan_rlimit *limits = arena_newn0(a, struct plan_rlimit, p->rlimits.count + 1);
	size_t n = 0;

	OCI_EACH(oci_rlimit, r, p->rlimits) {
		size_t i = 0;

		while (i < ARRAY_SIZE(known) && !streq(known[i].name, r->type))
			i++;
		if (i == ARRAY_SIZE(known))
			return err_set(e, ERR_INVALID, "process.rlimits: unknown type \"%s\"", r->type);
		limits[n++] = (struct plan_rlimit){ known[i].resource, { r->soft, r->hard } };
	}
	out->rlimits = limits;
	out->nrlimits = n;
	return 0;
}

/* "All capabilities" means all that we may give: what our own bounding set lacks is left out, with a
 * line in the log, instead of a container that cannot start. */
static void caps_of(const struct oci_capabilities *c, struct plan_process *out)
{
	const char *unknown = NULL;
	uint64_t own = out->own_bounding, lacking;

	if (!c)
		return;
	out->caps = (struct caps){
		.bounding = caps_by_names(c->bounding, &unknown),
		.effective = caps_by_names(c->effective, &unknown),
		.permitted = caps_by_names(c->permitted, &unknown),
		.inheritable = caps_by_names(c->inheritable, &unknown),
		.ambient = caps_by_names(c->ambient, &unknown),
	};
	if (unknown)
		log_warn("capability %s is not known to this version and not given", unknown);
	lacking = (out->caps.bounding | out->caps.permitted | out->caps.inheritable) & ~own;
	for (int bit = 0; bit < 64; bit++)
		if (lacking >> bit & 1)
			log_debug("capability %s is not ours to give and left out", cap_name(bit));
	for (int bit = 0; bit < 64; bit++)
		if (out->caps.ambient & ~(out->caps.permitted & out->caps.inheritable) & own & (UINT64_C(1) << bit))
			log_warn("can't raise ambient capability %s: it is not both permitted and inheritable", cap_name(bit));
	out->caps.bounding &= own;
	out->caps.permitted &= own;
	out->caps.effective &= out->caps.permitted;
	out->caps.inheritable &= own;
	out->caps.ambient &= out->caps.permitted & out->caps.inheritable;
}

/* A process that enters a user namespace has all capabilities there. */
static uint64_t bounding_of(const struct runtime *rt, const struct oci_linux *l)
{
	if (l)
		OCI_EACH(oci_namespace, ns, l->namespaces)
			if (streq(ns->type, "user"))
				return caps_all();
	return rt->own_bounding;
}

/* Each name once: the last value at the last place, as with runc. A program would see whichever its libc finds. */
static char *const *merged(struct arena *a, char *const *env)
{
	size_t n = 0, to;
	struct map seen = { 0 };
	char **out;

	while (env && env[n])
		n++;
	out = arena_newn0(a, char *, n + 1);
	to = n;
	while (n-- > 0) {
		const char *equals = strchr(env[n], '=');

		if (map_add(&seen, equals ? arena_strndup(a, env[n], (size_t)(equals - env[n])) : env[n], env[n]))
			out[--to] = env[n];
	}
	map_free(&seen);
	return out + to;
}

int plan_process_make(struct arena *a, const struct runtime *rt, const struct oci_process *p,
		      const struct oci_linux *l, struct plan_process *out, struct err *e)
{
	struct plan_process q = {
		.args = p->args, .env = merged(a, p->env), .cwd = p->cwd, .path = NULL,
		.uid = p->user.uid, .gid = p->user.gid, .umask = p->user.umask ? *p->user.umask : 022,
		.gids = p->user.additional_gids.p, .ngids = p->user.additional_gids.count,
		.no_new_privs = p->no_new_privileges, .terminal = p->terminal, .console_size = p->console_size,
		.oom_score_adj = p->oom_score_adj, .apparmor = p->apparmor_profile, .selinux = p->selinux_label,
		.io_priority = -1, .personality = -1, .std = { -1, -1, -1 }, .pipes_uid = p->user.uid,
		.own_bounding = bounding_of(rt, l),
	};

	for (char *const *v = q.env; *v; v++)
		if (starts_with(*v, "PATH="))
			q.path = *v + 5;
	if (!q.path)
		q.path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	caps_of(p->capabilities, &q);
	if (rlimits_of(a, p, &q, e) < 0 || plan_scheduling(a, p, l, &q, e) < 0)
		return -1;
	if (l && l->seccomp && plan_seccomp(a, l->seccomp, &q, e) < 0)
		return -1;
	*out = q;
	return 0;
}
