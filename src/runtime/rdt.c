#include "runtime/rdt.h"

#include "base/fd.h"
#include "base/fs.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

int rdt_open(int *out, struct err *e)
{
	auto_arena a = { 0 };
	struct str text;

	if (fs_read_file(&a, AT_FDCWD, "/proc/self/mountinfo", 16 << 20, &text, e) < 0)
		return -1;
	while (text.p) {
		struct str line = str_cut(&text, '\n'), path = { 0 };
		const char *type = line.p ? memmem(line.p, line.len, " - resctrl ", 11) : NULL;

		if (!type)
			continue;
		for (int i = 0; i < 5; i++)
			path = str_cut(&line, ' ');
		*out = fd_open(AT_FDCWD, str_dup(&a, path), O_PATH | O_DIRECTORY, e);
		return *out < 0 ? -1 : 0;
	}
	return err_set(e, ERR_UNIMPLEMENTED, "linux.intelRdt: resctrl is not mounted here (mount -t resctrl resctrl "
		       "/sys/fs/resctrl; the CPU must have RDT or QoS)");
}

static int check_name(const char *name, struct err *e)
{
	if (!*name || streq(name, ".") || streq(name, "..") || strchr(name, '/') || strchr(name, '\n') ||
	    streq(name, "info") || streq(name, "mon_groups") || streq(name, "mon_data"))
		return err_set(e, ERR_INVALID, "linux.intelRdt.closID: \"%s\" cannot name a class", name);
	return 0;
}

static int write_line(int mount_fd, const char *group, const char *line, struct err *e)
{
	auto_arena a = { 0 };
	auto_fd int fd = fd_open(mount_fd, *group ? path_join(&a, group, "schemata") : "schemata", O_WRONLY, e);

	if (fd < 0)
		return err_in(e, "linux.intelRdt");
	line = arena_printf(&a, "%s\n", line);
	if (write(fd, line, strlen(line)) != (ssize_t)strlen(line))
		return err_sys(e, errno, "linux.intelRdt: write the schema \"%.*s\"", (int)strlen(line) - 1, line);
	return 0;
}

/* Line by line: the kernel takes all of a write or nothing. */
static int write_lines(int mount_fd, const char *group, const char *text, struct err *e)
{
	auto_arena a = { 0 };

	for (struct str rest = str_of(text); rest.p;) {
		struct str line = str_trim(str_cut(&rest, '\n'));

		if (line.len && write_line(mount_fd, group, str_dup(&a, line), e) < 0)
			return -1;
	}
	return 0;
}

int rdt_write_schema(int mount_fd, const char *group, const char *l3, const char *bandwidth, struct err *e)
{
	if (!str_is_empty(l3) && write_lines(mount_fd, group, l3, e) < 0)
		return -1;
	return str_is_empty(bandwidth) ? 0 : write_lines(mount_fd, group, bandwidth, e);
}

/* Past the zeros with which the kernel fills a mask. */
static size_t past_zeros(struct str s, size_t i)
{
	bool starts = i && s.p[i - 1] == '=';

	while (starts && i + 1 < s.len && s.p[i] == '0' && s.p[i + 1] != ';')
		i++;
	return i;
}

/* "L3:0=f;1=f": whether the class has that very line. */
static bool has_line(struct str have, struct str want)
{
	while (have.p) {
		struct str line = str_trim(str_cut(&have, '\n'));
		size_t i = 0, k = 0;

		while (i < line.len && k < want.len) {
			i = past_zeros(line, i);
			k = past_zeros(want, k);
			if (line.p[i] != want.p[k])
				break;
			i++;
			k++;
		}
		if (i == line.len && k == want.len)
			return true;
	}
	return false;
}

static int check_same(struct arena *a, int mount_fd, const char *group, const char *wanted, struct err *e)
{
	struct str have;

	if (str_is_empty(wanted))
		return 0;
	if (fs_read_file(a, mount_fd, *group ? path_join(a, group, "schemata") : "schemata", 65536, &have, e) < 0)
		return err_in(e, "linux.intelRdt");
	for (struct str rest = str_of(wanted); rest.p;) {
		struct str line = str_trim(str_cut(&rest, '\n'));

		if (line.len && !has_line(have, line))
			return err_set(e, ERR_STATE, "linux.intelRdt: the class \"%s\" exists, and without \"%.*s\"", group,
				       STR_ARG(line));
	}
	return 0;
}

static bool has_wishes(const struct oci_intel_rdt *w)
{
	return !str_is_empty(w->l3_cache_schema) || !str_is_empty(w->mem_bw_schema) || (w->schemata && w->schemata[0]);
}

static int names(struct arena *a, const char *id, const struct oci_intel_rdt *w, struct rdt *r, struct err *e)
{
	const char *clos = str_is_empty(w->clos_id) ? id : w->clos_id;

	/* "/" is the root's own class (runtime-spec 1.3). */
	r->group = arena_strdup(a, streq(clos, "/") ? "" : clos);
	if (*r->group && check_name(r->group, e) < 0)
		return -1;
	if (w->enable_monitoring)
		r->monitor = arena_printf(a, "%s%smon_groups/%s", r->group, *r->group ? "/" : "", id);
	return 0;
}

static int make_group(int mount_fd, const struct oci_intel_rdt *w, struct rdt *r, struct err *e)
{
	struct stat st;

	if (!*r->group || fstatat(mount_fd, r->group, &st, 0) == 0)
		return 0;
	/* A class that was named and not described is one that somebody has prepared. */
	if (!str_is_empty(w->clos_id) && !has_wishes(w))
		return err_set(e, ERR_NOT_FOUND, "linux.intelRdt.closID: the class \"%s\" does not exist", r->group);
	if (mkdirat(mount_fd, r->group, 0755) < 0)
		return errno == ENOSPC ? err_set(e, ERR_EXHAUSTED, "linux.intelRdt: no class of service is left for \"%s\"",
						 r->group) :
		       err_sys(e, errno, "linux.intelRdt: make the class \"%s\"", r->group);
	r->made_group = true;
	return 0;
}

static int fill(struct arena *a, int mount_fd, const struct oci_intel_rdt *w, const struct rdt *r, struct err *e)
{
	if (!r->made_group && (check_same(a, mount_fd, r->group, w->l3_cache_schema, e) < 0 ||
			       check_same(a, mount_fd, r->group, w->mem_bw_schema, e) < 0))
		return -1;
	if (r->made_group && rdt_write_schema(mount_fd, r->group, w->l3_cache_schema, w->mem_bw_schema, e) < 0)
		return -1;
	for (char **line = w->schemata; line && *line; line++)
		if (write_lines(mount_fd, r->group, *line, e) < 0)
			return -1;
	if (r->monitor && mkdirat(mount_fd, r->monitor, 0755) < 0 && errno != EEXIST)
		return err_sys(e, errno, "linux.intelRdt.enableMonitoring: make %s", r->monitor);
	return 0;
}

static int open_tasks(struct arena *a, int mount_fd, struct rdt *r, struct err *e)
{
	const char *folder = r->monitor ? r->monitor : r->group;

	r->tasks_fd = fd_open(mount_fd, *folder ? path_join(a, folder, "tasks") : "tasks", O_WRONLY, e);
	return r->tasks_fd < 0 ? err_in(e, "linux.intelRdt") : 0;
}

int rdt_create(struct arena *a, int mount_fd, const char *id, const struct oci_intel_rdt *wish, struct rdt *out,
	       struct err *e)
{
	struct rdt r = RDT_INIT;
	struct err ignored;

	if (names(a, id, wish, &r, e) < 0 || make_group(mount_fd, wish, &r, e) < 0)
		return -1;
	if (fill(a, mount_fd, wish, &r, e) < 0 || open_tasks(a, mount_fd, &r, e) < 0) {
		(void)rdt_remove(mount_fd, &r, &ignored);
		return -1;
	}
	/* A class with a name of its own may be others' by now. */
	r.made_group = r.made_group && str_is_empty(wish->clos_id);
	*out = r;
	return 0;
}

int rdt_join(struct arena *a, int mount_fd, const char *id, const struct oci_intel_rdt *wish, struct rdt *out,
	     struct err *e)
{
	struct rdt r = RDT_INIT;

	if (names(a, id, wish, &r, e) < 0 || open_tasks(a, mount_fd, &r, e) < 0)
		return -1;
	*out = r;
	return 0;
}

int rdt_remove(int mount_fd, const struct rdt *r, struct err *e)
{
	if (r->monitor && unlinkat(mount_fd, r->monitor, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return err_sys(e, errno, "linux.intelRdt: remove %s", r->monitor);
	if (r->made_group && unlinkat(mount_fd, r->group, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return err_sys(e, errno, "linux.intelRdt: remove %s", r->group);
	return 0;
}
