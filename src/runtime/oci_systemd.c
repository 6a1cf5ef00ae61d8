/* knarr-oci with --systemd-cgroup: whose unit a container is. */
#include "runtime/oci.h"

#include "base/fs.h"
#include "base/log.h"
#include "runtime/systemd.h"

#include <fcntl.h>
#include <unistd.h>

/* Root of the machine talks to its systemd; everyone else, and root of a user namespace, to the user's own. */
static bool is_users_own(struct oci_app *app)
{
	struct str text, number;
	struct err ignored;

	if (geteuid() != 0)
		return true;
	if (fs_read_file(&app->arena, AT_FDCWD, "/proc/self/uid_map", 4096, &text, &ignored) < 0)
		return false;
	while (text.p && text.len)
		number = str_cut(&text, ' ');
	return !str_eqz(str_trim(number), "4294967295");
}

int oci_unit_of(struct oci_app *app, const char *cgroups_path, const char *id, struct systemd_unit *out, struct err *e)
{
	unsigned flags = is_users_own(app) ? SYSTEMD_USER : 0;

	if (systemd_unit_parse(&app->arena, cgroups_path, id, flags, out, e) < 0)
		return -1;
	return systemd_unit_locate(NULL, &app->arena, out, e);
}

static int start(struct oci_app *app, const struct systemd_unit *u, const struct oci_config *c, pid_t holder, struct err *e)
{
	struct systemd_properties *p = arena_new0(&app->arena, struct systemd_properties);

	if (systemd_resources(&app->arena, &app->rt.cgroups, c->on_linux ? c->on_linux->resources : NULL, p, e) < 0 ||
	    systemd_annotations(&app->arena, &c->annotations, p, e) < 0)
		return -1;
	return systemd_scope_start(NULL, u, holder, arena_printf(&app->arena, "container %s", u->name), p, e);
}

int oci_scope_begin(struct oci_app *app, const struct systemd_unit *u, const struct oci_config *c, pid_t *holder,
		    struct err *e)
{
	if (cgroup_is_populated(&app->rt.cgroups, u->cgroup))
		return err_set(e, ERR_EXISTS, "unit %s exists already: processes are in its cgroup", u->name);
	if (systemd_holder_start(holder, e) < 0)
		return -1;
	if (start(app, u, c, *holder, e) == 0) {
		systemd_pids_make_room(c->on_linux ? c->on_linux->resources : NULL);
		return 0;
	}
	systemd_holder_end(holder);
	return -1;
}

int oci_scope_begun(struct oci_app *app, const struct systemd_unit *u, const struct oci_config *c, pid_t *holder,
		    struct err *e)
{
	if (*holder <= 0)
		return 0;
	systemd_holder_end(holder);
	return systemd_pids_settle(&app->rt.cgroups, u->cgroup, c->on_linux ? c->on_linux->resources : NULL, e);
}

bool oci_record_unit(const struct oci_record *r, struct systemd_unit *out)
{
	*out = (struct systemd_unit){ r->unit, r->slice, r->cgroup, r->user_unit };
	return !str_is_empty(r->unit);
}

/* systemd collects an empty scope by itself: that it cannot be asked now keeps nobody from deleting. */
void oci_unit_end(const struct oci_record *r)
{
	struct systemd_unit u;
	struct err e;

	if (oci_record_unit(r, &u) && systemd_unit_stop(NULL, &u, &e) < 0)
		log_warn("%s", e.msg);
}

int oci_resources_update(struct oci_app *app, const struct oci_record *r, const struct oci_resources *res, struct err *e)
{
	struct systemd_unit u;

	if (oci_record_unit(r, &u))
		return systemd_update(NULL, &app->rt.cgroups, &u, res, e);
	return resources_update(&app->rt.cgroups, r->cgroup, res, e);
}
