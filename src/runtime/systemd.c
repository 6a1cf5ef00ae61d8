#include "runtime/systemd.h"

#include "base/clock.h"
#include "runtime/systemd_bus.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEFAULT_PREFIX "knarr-oci"

/* --- names ------------------------------------------------------------------------------------------ */

bool systemd_is_unit_path(const char *cgroups_path)
{
	return strchr(cgroups_path, ':');
}

int systemd_slice_path(struct arena *a, const char *slice, const char **out, struct err *e)
{
	size_t n = strlen(slice);
	char *path = arena_strdup(a, "");

	if (streq(slice, "-.slice")) {
		*out = path;
		return 0;
	}
	if (n <= 6 || !ends_with(slice, ".slice") || strchr(slice, '/') || slice[0] == '-' || slice[n - 7] == '-' ||
	    strstr(slice, "--") || n > 255)
		return err_set(e, ERR_INVALID, "\"%.200s\" cannot be a slice's name", slice);
	for (size_t i = 0; i <= n - 6; i++)
		if (slice[i] == '-' || i == n - 6)
			path = arena_printf(a, "%s%s%.*s.slice", path, *path ? "/" : "", (int)i, slice);
	*out = path;
	return 0;
}

static bool is_unit_name(const char *name)
{
	return strlen(name) <= 255 && !name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
						   ":-_.\\@")];
}

static int default_unit(struct arena *a, const char *id, unsigned flags, struct systemd_unit *u, struct err *e)
{
	/* systemd's unit names have no '+', which a container's may have: written as systemd escapes it. */
	char *name = arena_alloc0(a, strlen(id) * 4 + 1), *to = name;

	for (const char *p = id; *p; p++) {
		if (*p == '+')
			to = mempcpy(to, "\\x2b", 4);
		else
			*to++ = *p;
	}
	return systemd_unit_parse(a, arena_printf(a, ":" DEFAULT_PREFIX ":%s", name), id, flags, u, e);
}

int systemd_unit_parse(struct arena *a, const char *cgroups_path, const char *id, unsigned flags,
		       struct systemd_unit *out, struct err *e)
{
	struct systemd_unit u = { .user = flags & SYSTEMD_USER };
	struct str rest, slice, prefix, name;
	const char *path;

	if (str_is_empty(cgroups_path))
		return default_unit(a, id, flags, out, e);
	rest = str_of(cgroups_path);
	slice = str_cut(&rest, ':');
	prefix = str_cut(&rest, ':');
	name = rest;
	if (!name.p || memchr(name.p, ':', name.len))
		return err_set(e, ERR_INVALID, "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd "
			       "cgroups, got \"%.200s\" instead", cgroups_path);
	u.slice = slice.len ? str_dup(a, slice) : u.user ? "user.slice" : "system.slice";
	if (name.len > 6 && memcmp(name.p + name.len - 6, ".slice", 6) == 0)
		return err_set(e, ERR_INVALID, "cgroupsPath \"%.200s\": a container cannot be a slice", cgroups_path);
	u.name = arena_printf(a, "%.*s-%.*s.scope", STR_ARG(prefix), STR_ARG(name));
	if (!name.len || !is_unit_name(u.name))
		return err_set(e, ERR_INVALID, "cgroupsPath \"%.200s\": \"%.200s\" cannot be a unit's name", cgroups_path,
			       u.name);
	if (systemd_slice_path(a, u.slice, &path, e) < 0)
		return err_in(e, "cgroupsPath \"%.200s\"", cgroups_path);
	u.cgroup = arena_printf(a, "%s%s%s", path, *path ? "/" : "", u.name);
	*out = u;
	return 0;
}

/* --- the manager ------------------------------------------------------------------------------------ */

/* The caller's call, cut to our own limit. */
static void call_of(struct call *mine, const struct call *c)
{
	int64_t until = clock_mono_ns() + SYSTEMD_WAIT_S * NS_PER_S;

	call_begin(mine, c && c->deadline_ns ? MIN(c->deadline_ns, until) : until);
}

int systemd_unit_locate(struct call *c, struct arena *a, struct systemd_unit *u, struct err *e)
{
	auto_systemd_bus b = { .fd = -1 };
	const char *at;
	auto_call mine;

	call_of(&mine, c);
	if (!u->user)
		return 0;
	if (systemd_bus_open(&mine, true, &b, e) < 0 || systemd_bus_property(&mine, &b, "ControlGroup", &at, e) < 0)
		return -1;
	while (*at == '/')
		at++;
	u->cgroup = arena_printf(a, "%s%s%s", at, *at ? "/" : "", u->cgroup);
	return 0;
}

static void write_properties(struct dbus_writer *w, const struct systemd_property *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		dbus_write_struct(w);
		dbus_write_text(w, p[i].name);
		dbus_write_variant(w, &p[i].value);
	}
}

static int reset_failed(struct call *c, struct systemd_bus *b, const char *unit, struct err *e)
{
	struct dbus_message answer;
	struct dbus_writer w;

	systemd_bus_call(b, &w, "ResetFailedUnit", "s");
	dbus_write_text(&w, unit);
	return systemd_bus_ask(c, b, &w, unit, &answer, e);
}

#define FLAG(name_) { name_, { .signature = "b", .n = 1 } }

static int start_once(struct call *c, struct systemd_bus *b, const struct systemd_unit *u, pid_t pid,
		      const char *description, const struct systemd_properties *more, struct dbus_message *answer,
		      struct err *e)
{
	const struct dbus_value id = { .signature = "u", .n = (uint64_t)pid };
	const struct systemd_property first[] = {
		{ "Description", { .signature = "s", .text = description } },
		{ "Slice", { .signature = "s", .text = u->slice } },
		{ "PIDs", { .signature = "au", .items = &id, .nitems = 1 } },
		{ "DefaultDependencies", { .signature = "b" } },
		{ "CollectMode", { .signature = "s", .text = "inactive-or-failed" } },
		FLAG("Delegate"), FLAG("MemoryAccounting"), FLAG("CPUAccounting"), FLAG("TasksAccounting"),
	};
	struct dbus_writer w;
	struct dbus_array at;

	systemd_bus_call(b, &w, "StartTransientUnit", "ssa(sv)a(sa(sv))");
	dbus_write_text(&w, u->name);
	dbus_write_text(&w, "replace");
	at = dbus_write_array(&w, '(');
	write_properties(&w, first, ARRAY_SIZE(first));
	write_properties(&w, more->p, more->n);
	dbus_write_array_end(&w, at);
	dbus_write_array_end(&w, dbus_write_array(&w, '('));
	return systemd_bus_ask(c, b, &w, arena_printf(&b->arena, "start %s", u->name), answer, e);
}

int systemd_scope_start(struct call *c, const struct systemd_unit *u, pid_t pid, const char *description,
			const struct systemd_properties *more, struct err *e)
{
	auto_systemd_bus b = { .fd = -1 };
	struct dbus_message answer;
	struct err ignored;
	auto_call mine;
	int rc;

	call_of(&mine, c);
	if (systemd_bus_open(&mine, u->user, &b, e) < 0)
		return -1;
	rc = start_once(&mine, &b, u, pid, description, more, &answer, e);
	if (rc < 0 && e->kind == ERR_EXISTS &&
	    (reset_failed(&mine, &b, u->name, &ignored) == 0 || ignored.kind == ERR_NOT_FOUND))
		rc = start_once(&mine, &b, u, pid, description, more, &answer, e);
	if (rc < 0)
		return -1;
	return systemd_bus_job(&mine, &b, &answer, arena_printf(&b.arena, "start %s", u->name), e);
}

int systemd_unit_set(struct call *c, const struct systemd_unit *u, const struct systemd_properties *p, struct err *e)
{
	auto_systemd_bus b = { .fd = -1 };
	struct dbus_message answer;
	struct dbus_writer w;
	struct dbus_array at;
	auto_call mine;

	call_of(&mine, c);
	if (!p->n)
		return 0;
	if (systemd_bus_open(&mine, u->user, &b, e) < 0)
		return -1;
	systemd_bus_call(&b, &w, "SetUnitProperties", "sba(sv)");
	dbus_write_text(&w, u->name);
	dbus_write_u32(&w, 1); /* until the unit ends, not beyond */
	at = dbus_write_array(&w, '(');
	write_properties(&w, p->p, p->n);
	dbus_write_array_end(&w, at);
	return systemd_bus_ask(&mine, &b, &w, arena_printf(&b.arena, "set properties of %s", u->name), &answer, e);
}

int systemd_unit_stop(struct call *c, const struct systemd_unit *u, struct err *e)
{
	auto_systemd_bus b = { .fd = -1 };
	struct dbus_message answer;
	struct dbus_writer w;
	struct err ignored;
	const char *what;
	auto_call mine;

	call_of(&mine, c);
	if (systemd_bus_open(&mine, u->user, &b, e) < 0)
		return -1;
	what = arena_printf(&b.arena, "stop %s", u->name);
	systemd_bus_call(&b, &w, "StopUnit", "ss");
	dbus_write_text(&w, u->name);
	dbus_write_text(&w, "replace");
	if (systemd_bus_ask(&mine, &b, &w, what, &answer, e) < 0)
		return e->kind == ERR_NOT_FOUND ? 0 : -1;
	if (systemd_bus_job(&mine, &b, &answer, what, e) < 0)
		return -1;
	(void)reset_failed(&mine, &b, u->name, &ignored); /* it was collected, as it should be */
	return 0;
}

/* --- the holder ------------------------------------------------------------------------------------- */

int systemd_holder_start(pid_t *pid, struct err *e)
{
	pid_t parent = getpid(), child = fork();

	if (child < 0)
		return err_sys(e, errno, "fork");
	if (child == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* what cannot fail */
		while (getppid() == parent)
			(void)pause();
		_exit(0);
	}
	*pid = child;
	return 0;
}

void systemd_holder_end(pid_t *pid)
{
	if (*pid <= 0)
		return;
	(void)kill(*pid, SIGKILL); /* our child, not reaped yet */
	while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
		;
	*pid = 0;
}

static int64_t *pids_limit(const struct oci_resources *r)
{
	return r && r->pids && r->pids->limit && *r->pids->limit > 0 && *r->pids->limit < INT32_MAX ? r->pids->limit : NULL;
}

void systemd_pids_make_room(const struct oci_resources *r)
{
	int64_t *limit = pids_limit(r);

	if (limit)
		++*limit;
}

int systemd_pids_settle(const struct cgroup_layout *l, const char *cgroup, const struct oci_resources *r, struct err *e)
{
	int64_t *limit = pids_limit(r);
	char text[24];

	if (!limit)
		return 0;
	(void)snprintf(text, sizeof(text), "%lld", (long long)--*limit);
	return cgroup_write(l, CGROUP_PIDS, cgroup, "pids.max", text, e);
}

/* --- update ----------------------------------------------------------------------------------------- */

int systemd_update(struct call *c, const struct cgroup_layout *l, const struct systemd_unit *u,
		   const struct oci_resources *r, struct err *e)
{
	auto_arena a = { 0 };
	struct systemd_properties *p = arena_new0(&a, struct systemd_properties);
	bool hold = l->mode != CGROUP_V2 && r->devices.count && !cgroup_is_frozen(l, u->cgroup);
	struct err ignored;
	int rc;

	if (systemd_resources(&a, l, r, p, e) < 0)
		return -1;
	/* On v1 systemd denies all devices and then allows those of the list. */
	if (hold && cgroup_freeze(l, u->cgroup, e) < 0)
		return -1;
	rc = systemd_unit_set(c, u, p, e);
	if (hold)
		(void)cgroup_thaw(l, u->cgroup, &ignored); /* it may have ended */
	return rc < 0 ? -1 : resources_update(l, u->cgroup, r, e);
}
