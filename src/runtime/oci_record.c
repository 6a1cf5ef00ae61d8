#include "runtime/oci.h"

#include "base/fd.h"
#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct json_field record_fields[] = {
	{ "ociVersion", JSON_STR, offsetof(struct oci_record, oci_version), JSON_REQUIRED },
	{ "id", JSON_STR, offsetof(struct oci_record, id), JSON_REQUIRED },
	{ "bundle", JSON_STR, offsetof(struct oci_record, bundle), JSON_REQUIRED },
	{ "rootfs", JSON_STR, offsetof(struct oci_record, rootfs) },
	{ "cgroup", JSON_STR, offsetof(struct oci_record, cgroup) },
	{ "created", JSON_STR, offsetof(struct oci_record, created) },
	{ "owner", JSON_STR, offsetof(struct oci_record, owner) },
	{ "pid", JSON_I32, offsetof(struct oci_record, pid), JSON_KEEP_ZERO },
	{ "startTicks", JSON_U64, offsetof(struct oci_record, start_ticks) },
	{ "annotations", JSON_MAP, offsetof(struct oci_record, annotations) },
	{ "sharesPids", JSON_BOOL, offsetof(struct oci_record, shares_pids) },
	{ "hasPoststart", JSON_BOOL, offsetof(struct oci_record, has_poststart) },
	{ "rdtGroup", JSON_STR, offsetof(struct oci_record, rdt_group) },
	{ "rdtMonitor", JSON_STR, offsetof(struct oci_record, rdt_monitor) },
	{ "unit", JSON_STR, offsetof(struct oci_record, unit) },
	{ "slice", JSON_STR, offsetof(struct oci_record, slice) },
	{ "stdio", JSON_STRV, offsetof(struct oci_record, stdio) },
	{ "userUnit", JSON_BOOL, offsetof(struct oci_record, user_unit) },
	{ 0 },
};

static int check_id(const char *id, struct err *e)
{
	size_t n = id ? strlen(id) : 0;

	if (!n || n > 1024 || streq(id, ".") || streq(id, "..") ||
	    strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.") != n)
		return err_set(e, ERR_INVALID, "invalid container id format: \"%.100s\"", id ? id : "");
	return 0;
}

char *oci_record_path(struct oci_app *app, const char *id, const char *file)
{
	return arena_printf(&app->arena, "%s/%s%s%s", app->root, id, *file ? "/" : "", file);
}

int oci_record_load(struct oci_app *app, const char *id, struct oci_record *out, struct err *e)
{
	struct oci_record r = { 0 };
	struct str text;

	if (check_id(id, e) < 0)
		return -1;
	if (fs_read_file(&app->arena, AT_FDCWD, oci_record_path(app, id, "state.json"), 1 << 20, &text, e) < 0)
		return e->kind == ERR_NOT_FOUND ? err_set(e, ERR_NOT_FOUND, "container does not exist: %s", id) : -1;
	if (json_load(&app->arena, text, record_fields, 0, &r, e) < 0)
		return err_in(e, "state of %s", id);
	*out = r;
	return 0;
}

int oci_record_save(struct oci_app *app, const struct oci_record *r, struct err *e)
{
	auto_buf b = BUF(1 << 20);

	if (json_write(&b, record_fields, r, e) < 0)
		return -1;
	return fs_replace(AT_FDCWD, oci_record_path(app, r->id, "state.json"), b.p, b.len, 0600, 0, e);
}

int oci_record_reserve(struct oci_app *app, const char *id, struct err *e)
{
	const char *path;

	if (check_id(id, e) < 0)
		return -1;
	path = oci_record_path(app, id, "");
	if (mkdir(path, 0711) == 0)
		return 0;
	if (errno == ENOENT) {
		if (fs_mkdirs(AT_FDCWD, app->root, 0711, e) < 0)
			return -1;
		if (mkdir(path, 0711) == 0)
			return 0;
	}
	if (errno == EEXIST)
		return err_set(e, ERR_EXISTS, "container with given ID already exists: %s", id);
	return err_sys(e, errno, "make %s", path);
}

int oci_record_drop(struct oci_app *app, const char *id, struct err *e)
{
	/* What is there as a rule; else whatever is. */
	if (unlink(oci_record_path(app, id, "state.json")) == 0 && rmdir(oci_record_path(app, id, "")) == 0)
		return 0;
	return fs_remove_tree(AT_FDCWD, oci_record_path(app, id, ""), e);
}

/* 'S' of /proc/PID/stat, 0: gone. */
static char process_letter(pid_t pid, uint64_t ticks)
{
	auto_arena a = { 0 };
	struct str text;
	struct err ignored;
	const char *paren;
	uint64_t now;

	if (proc_start_time(pid, &now, &ignored) < 0 || now != ticks)
		return 0;
	if (fs_read_file(&a, AT_FDCWD, arena_printf(&a, "/proc/%d/stat", pid), 4096, &text, &ignored) < 0)
		return 0;
	paren = strrchr(text.p, ')');
	return paren && paren[1] ? paren[2] : 0;
}

static bool read_small(struct oci_app *app, const char *path, struct str *out)
{
	struct err ignored;

	return fs_read_file(&app->arena, AT_FDCWD, path, 4096, out, &ignored) == 0;
}

/* By the usual places, where a file of that name is the kernel's; all hierarchies are looked up only where they
 * are elsewhere. */
static bool is_frozen(struct oci_app *app, const char *cgroup)
{
	struct err ignored;
	struct str text;

	if (app->rt_open)
		return cgroup_is_frozen(&app->rt.cgroups, cgroup);
	if (read_small(app, arena_printf(&app->arena, "/sys/fs/cgroup/freezer/%s/freezer.state", cgroup), &text))
		return !str_eqz(str_trim(text), "THAWED");
	if (read_small(app, arena_printf(&app->arena, "/sys/fs/cgroup/%s/cgroup.events", cgroup), &text))
		return strstr(text.p, "frozen 1");
	return oci_runtime(app, &ignored) == 0 && cgroup_is_frozen(&app->rt.cgroups, cgroup);
}

enum oci_status oci_record_status(struct oci_app *app, const struct oci_record *r, int *pidfd)
{
	struct err ignored;
	char letter;

	*pidfd = -1;
	if (r->pid <= 0)
		return OCI_STOPPED;
	*pidfd = proc_pidfd_open(r->pid, &ignored);
	/* Looked at after the pidfd holds it: the pid cannot have been given away meanwhile. */
	letter = process_letter(r->pid, r->start_ticks);
	if (*pidfd < 0 || !letter || letter == 'Z' || letter == 'X') {
		fd_close(pidfd);
		return OCI_STOPPED;
	}
	if (access(oci_record_path(app, r->id, "exec.fifo"), F_OK) == 0)
		return OCI_CREATED;
	if (r->cgroup && is_frozen(app, r->cgroup))
		return OCI_PAUSED;
	return OCI_RUNNING;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int oci_record_ids(struct oci_app *app, char ***out, struct err *e)
{
	char **ids = arena_newn0(&app->arena, char *, 1);
	struct dirent *d;
	DIR *dir = opendir(app->root);

	if (!dir) {
		*out = ids;
		/* By default it is made with the first container; a root that somebody names is there, or a mistake. */
		return errno == ENOENT && !app->root_given ? 0 : err_sys(e, errno, "open %s", app->root);
	}
	while ((d = readdir(dir)))
		if (d->d_name[0] != '.')
			ids = strv_append(&app->arena, ids, arena_strdup(&app->arena, d->d_name));
	(void)closedir(dir);
	qsort(ids, strv_len(ids), sizeof(*ids), by_name);
	*out = ids;
	return 0;
}
