#include "kernel/cgroup.h"

#include "base/fd.h"
#include "base/fs.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char *const controller_name[CGROUP_CONTROLLER_COUNT] = {
#define X(name, text) [CGROUP_##name] = text,
	CGROUP_CONTROLLERS(X)
#undef X
};

const char *cgroup_controller_name(enum cgroup_controller c)
{
	return controller_name[c];
}

static int controller_by_name(struct str name)
{
	for (int c = 0; c < CGROUP_UNIFIED; c++)
		if (str_eqz(name, controller_name[c]))
			return c;
	return str_eqz(name, "io") ? CGROUP_BLKIO : -1;
}

/* --- layout ------------------------------------------------------------------------------------ */

static unsigned controllers_of(struct str words, char separator)
{
	unsigned found = 0;

	while (words.p) {
		int c = controller_by_name(str_cut(&words, separator));

		if (c >= 0)
			found |= BIT(c);
	}
	return found;
}

static int add_hierarchy(struct cgroup_layout *l, const char *mount_point, unsigned controllers, struct err *e)
{
	struct cgroup_hierarchy *h = &l->h[l->nh];
	const char *slash = strrchr(mount_point, '/');

	if (l->nh == CGROUP_HIERARCHY_MAX)
		return err_set(e, ERR_EXHAUSTED, "more than %d cgroup hierarchies", CGROUP_HIERARCHY_MAX);
	for (size_t i = 0; i < l->nh; i++)
		if (l->h[i].controllers == controllers)
			return 0; /* mounted twice */
	h->root_fd = fd_open(AT_FDCWD, mount_point, O_PATH | O_DIRECTORY, e);
	if (h->root_fd < 0)
		return -1;
	h->controllers = controllers;
	(void)snprintf(h->name, sizeof(h->name), "%s", slash ? slash + 1 : mount_point);
	for (int c = 0; c < CGROUP_CONTROLLER_COUNT; c++)
		if (controllers & BIT(c))
			l->of[c] = (int8_t)l->nh;
	l->nh++;
	return 0;
}

/* "36 25 0:31 / /sys/fs/cgroup/cpu rw,nosuid - cgroup cgroup rw,cpu" */
static int read_mount(struct arena *a, struct cgroup_layout *l, struct str line, struct err *e)
{
	struct str word[6], rest = line, type, super = { "", 0 };
	const char *dash = memmem(line.p, line.len, " - ", 3);
	unsigned controllers;
	char *point;

	if (!dash)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(word); i++)
		word[i] = str_cut(&rest, ' ');
	rest = (struct str){ dash + 3, line.len - (size_t)(dash + 3 - line.p) };
	type = str_cut(&rest, ' ');
	(void)str_cut(&rest, ' ');
	if (rest.p)
		super = rest;
	if (str_eqz(type, "cgroup2"))
		controllers = BIT(CGROUP_UNIFIED);
	else if (str_eqz(type, "cgroup"))
		controllers = controllers_of(super, ',');
	else
		return 0;
	point = str_dup(a, word[4]);
	if (!controllers || !starts_with(point, "/sys/fs/cgroup"))
		return 0; /* another named hierarchy, or one bound into some container */
	return add_hierarchy(l, point, controllers, e);
}

static int finish_layout(struct cgroup_layout *l, struct err *e)
{
	auto_arena a = { 0 };
	struct str text;

	if (!l->nh)
		return err_set(e, ERR_NOT_FOUND, "no cgroup file system is mounted below /sys/fs/cgroup");
	l->mode = l->of[CGROUP_UNIFIED] < 0 ? CGROUP_V1 : l->nh == 1 ? CGROUP_V2 : CGROUP_HYBRID;
	if (l->of[CGROUP_UNIFIED] < 0)
		return 0;
	if (fs_read_file(&a, l->h[l->of[CGROUP_UNIFIED]].root_fd, "cgroup.controllers", 4096, &text, e) < 0)
		return -1;
	l->v2_controllers = controllers_of(str_trim(text), ' ');
	for (int c = 0; c < CGROUP_CONTROLLER_COUNT; c++)
		if (l->of[c] < 0 && c != CGROUP_SYSTEMD &&
		    (l->mode == CGROUP_V2 || l->v2_controllers & BIT(c)))
			l->of[c] = l->of[CGROUP_UNIFIED];
	if (l->mode == CGROUP_V2)
		l->h[0].name[0] = '\0';
	return 0;
}

int cgroup_layout_open(struct cgroup_layout *out, struct err *e)
{
	auto_arena a = { 0 };
	struct cgroup_layout l = { .mount = "/sys/fs/cgroup" };
	struct str text;

	memset(l.of, -1, sizeof(l.of));
	if (fs_read_file(&a, AT_FDCWD, "/proc/self/mountinfo", 64 << 20, &text, e) < 0)
		return -1;
	while (text.p)
		if (read_mount(&a, &l, str_cut(&text, '\n'), e) < 0) {
			cgroup_layout_close(&l);
			return -1;
		}
	if (finish_layout(&l, e) < 0) {
		cgroup_layout_close(&l);
		return -1;
	}
	*out = l;
	return 0;
}

void cgroup_layout_close(struct cgroup_layout *l)
{
	for (size_t i = 0; i < l->nh; i++)
		fd_close(&l->h[i].root_fd);
	l->nh = 0;
}

int cgroup_path_clean(struct arena *a, const char *path, const char **out, struct err *e)
{
	char *clean;

	if (!*path || strlen(path) >= CGROUP_PATH_MAX || strpbrk(path, "\n:") || strstr(path, "/../") ||
	    starts_with(path, "../") || ends_with(path, "/..") || streq(path, ".."))
		return err_set(e, ERR_INVALID, "\"%.200s\" cannot be a cgroup's path", path);
	clean = path_clean(a, path);
	if (streq(clean, "/"))
		return err_set(e, ERR_INVALID, "\"%s\" is the root cgroup, not one of a container", path);
	*out = clean + 1;
	return 0;
}

/* --- files ------------------------------------------------------------------------------------- */

static int file_open(int root_fd, const char *path, const char *file, int flags)
{
	char name[CGROUP_PATH_MAX + 100];

	(void)snprintf(name, sizeof(name), "%s/%s", path, file);
	return openat(root_fd, name, flags | O_CLOEXEC | O_NOFOLLOW);
}

static int write_file(const struct cgroup_hierarchy *h, const char *path, const char *file, const char *text,
		      struct err *e)
{
	auto_fd int fd = file_open(h->root_fd, path, file, O_WRONLY);
	ssize_t n;

	if (fd < 0)
		return err_sys(e, errno, "cgroup %s: open %s%s%s", path, h->name, *h->name ? "/" : "", file);
	do {
		n = write(fd, text, strlen(text));
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_sys(e, errno, "cgroup %s: write \"%s\" to %s%s%s", path, text, h->name,
			       *h->name ? "/" : "", file);
	return 0;
}

static int read_file(const struct cgroup_hierarchy *h, const char *path, const char *file,
		     struct cgroup_text *out, struct err *e)
{
	auto_fd int fd = file_open(h->root_fd, path, file, O_RDONLY);

	if (fd < 0)
		return err_sys(e, errno, "cgroup %s: open %s%s%s", path, h->name, *h->name ? "/" : "", file);
	out->len = 0;
	for (;;) {
		ssize_t n = read(fd, out->p + out->len, sizeof(out->p) - 1 - out->len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, errno, "cgroup %s: read %s%s%s", path, h->name, *h->name ? "/" : "", file);
		out->len += (size_t)n;
		if (n == 0 || out->len == sizeof(out->p) - 1)
			break;
	}
	while (out->len && out->p[out->len - 1] == '\n')
		out->len--;
	out->p[out->len] = '\0';
	return 0;
}

static int hierarchy_of(const struct cgroup_layout *l, enum cgroup_controller c, const char *path,
			struct err *e)
{
	if (l->of[c] < 0)
		return err_set(e, ERR_NOT_FOUND, "cgroup %s: this kernel has no %s controller", path,
			       controller_name[c]);
	return l->of[c];
}

int cgroup_write(const struct cgroup_layout *l, enum cgroup_controller c, const char *path,
		 const char *file, const char *text, struct err *e)
{
	int h = hierarchy_of(l, c, path, e);

	return h < 0 ? -1 : write_file(&l->h[h], path, file, text, e);
}

int cgroup_read(const struct cgroup_layout *l, enum cgroup_controller c, const char *path,
		const char *file, struct cgroup_text *out, struct err *e)
{
	int h = hierarchy_of(l, c, path, e);

	return h < 0 ? -1 : read_file(&l->h[h], path, file, out, e);
}

/* --- folders ----------------------------------------------------------------------------------- */

/* An empty cpuset refuses members: it takes what the nearest one above has, and those between do, too (whoever
 * made them, a plain mkdir has left them empty). */
static int fill_cpuset(const struct cgroup_hierarchy *h, const char *path, const char *file, struct err *e)
{
	char part[CGROUP_PATH_MAX + 1];
	size_t full = strlen(path), n = full;
	struct cgroup_text text;

	memcpy(part, path, full + 1);
	for (;;) {
		if (read_file(h, n ? part : ".", file, &text, e) < 0)
			return -1;
		if (text.len || !n)
			break;
		while (n && part[--n] != '/')
			;
		part[n] = '\0';
	}
	while (text.len && n < full) {
		memcpy(part, path, full + 1);
		n += strcspn(path + n + (n > 0), "/") + (n > 0);
		part[n] = '\0';
		if (write_file(h, part, file, text.p, e) < 0)
			return -1;
	}
	return 0;
}

static int inherit_cpuset(const struct cgroup_hierarchy *h, const char *path, struct err *e)
{
	return fill_cpuset(h, path, "cpuset.cpus", e) < 0 ? -1 : fill_cpuset(h, path, "cpuset.mems", e);
}

/* Hands every controller of `path` down to its children. One that may not be (processes sit in the
 * group, or a realtime task blocks cpu) is left out: the container then has no limit of that kind,
 * which setting one will say. */
static int delegate(const struct cgroup_hierarchy *h, const char *path, struct err *e)
{
	struct cgroup_text have, down;
	struct str rest;

	if (read_file(h, path, "cgroup.controllers", &have, e) < 0 ||
	    read_file(h, path, "cgroup.subtree_control", &down, e) < 0)
		return -1;
	rest = (struct str){ have.p, have.len };
	while (rest.p && have.len) {
		struct str word = str_cut(&rest, ' '), there = { down.p, down.len };
		char text[64];
		struct err ignored;
		bool done = false;

		while (there.p && !done)
			done = str_eq(str_cut(&there, ' '), word);
		if (done || word.len > 50 || !word.len)
			continue;
		(void)snprintf(text, sizeof(text), "+%.*s", STR_ARG(word));
		(void)write_file(h, path, "cgroup.subtree_control", text, &ignored);
	}
	return 0;
}

/* Prepares the parent (v2), too. */
static int make_level(const struct cgroup_hierarchy *h, const char *parent, const char *path, bool *made,
		      struct err *e)
{
	bool v2 = h->controllers & BIT(CGROUP_UNIFIED);

	*made = false;
	if (mkdirat(h->root_fd, path, 0755) < 0) {
		if (errno == EEXIST)
			return v2 ? delegate(h, parent, e) : 0;
		return err_sys(e, errno, "cgroup %s: create in %s", path, *h->name ? h->name : "cgroup2");
	}
	*made = true;
	if (v2)
		return delegate(h, parent, e);
	return 0;
}

/* The common case, all parents are there: one mkdir. *first_made: where the part of the path that
 * this call made begins to have its own name, 0: none. */
static int create_in(const struct cgroup_hierarchy *h, const char *path, size_t *first_made, struct err *e)
{
	bool v2 = h->controllers & BIT(CGROUP_UNIFIED), made;
	char part[CGROUP_PATH_MAX + 1], parent[CGROUP_PATH_MAX + 1] = ".";
	size_t n = strlen(path);

	*first_made = 0;
	if (!v2 && !(h->controllers & BIT(CGROUP_CPUSET)) && mkdirat(h->root_fd, path, 0755) == 0) {
		*first_made = n;
		return 0;
	}
	for (size_t i = 1; i <= n; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		if (make_level(h, parent, part, &made, e) < 0)
			return -1;
		if (made && !*first_made)
			*first_made = i;
		memcpy(parent, part, i + 1);
	}
	return !v2 && h->controllers & BIT(CGROUP_CPUSET) ? inherit_cpuset(h, path, e) : 0;
}

static void unmake(const struct cgroup_hierarchy *h, const char *path, size_t first_made)
{
	char part[CGROUP_PATH_MAX + 1];
	size_t n = strlen(path);

	memcpy(part, path, n + 1);
	while (first_made && n >= first_made) {
		part[n] = '\0';
		if (unlinkat(h->root_fd, part, AT_REMOVEDIR) < 0 && errno != ENOENT)
			return;
		while (n && part[--n] != '/')
			;
	}
}

int cgroup_create(const struct cgroup_layout *l, const char *path, struct err *e)
{
	size_t made[CGROUP_HIERARCHY_MAX] = { 0 };

	for (size_t i = 0; i < l->nh; i++)
		if (create_in(&l->h[i], path, &made[i], e) < 0) {
			for (size_t k = 0; k <= i; k++)
				unmake(&l->h[k], path, made[k]);
			return -1;
		}
	return 0;
}

size_t cgroup_exec_hierarchy(const struct cgroup_layout *l)
{
	if (l->of[CGROUP_UNIFIED] >= 0)
		return (size_t)l->of[CGROUP_UNIFIED];
	return l->of[CGROUP_FREEZER] >= 0 ? (size_t)l->of[CGROUP_FREEZER] : 0;
}

int cgroup_create_exec(const struct cgroup_layout *l, const char *path, struct err *e)
{
	const struct cgroup_hierarchy *h = &l->h[cgroup_exec_hierarchy(l)];

	if (mkdirat(h->root_fd, path, 0755) < 0 && errno != EEXIST)
		return err_sys(e, errno, "cgroup %s: create in %s", path, *h->name ? h->name : "cgroup2");
	return 0;
}

static void wait_a_little(void)
{
	struct timespec t = { .tv_nsec = 1000000 };

	(void)nanosleep(&t, NULL);
}

/* rmdir, children first. Returns 0, or the errno. */
static int remove_in(int dirfd, const char *path, int *tries)
{
	auto_fd int fd = -1;
	struct dirent *d;
	DIR *dir;
	int rc = 0;

	while (unlinkat(dirfd, path, AT_REMOVEDIR) < 0) {
		if (errno == ENOENT)
			return 0;
		if (errno != EBUSY)
			return errno;
		fd_close(&fd);
		fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		dir = fd < 0 ? NULL : fdopendir(fd);
		if (!dir)
			return errno == ENOENT ? 0 : errno;
		while (!rc && (d = readdir(dir)))
			if (d->d_type == DT_DIR && d->d_name[0] != '.')
				rc = remove_in(fd, d->d_name, tries);
		fd = -1;
		(void)closedir(dir);
		if (rc)
			return rc;
		if (unlinkat(dirfd, path, AT_REMOVEDIR) == 0 || errno == ENOENT)
			return 0;
		if (errno != EBUSY || (*tries)-- <= 0)
			return errno;
		wait_a_little();
	}
	return 0;
}

int cgroup_remove(const struct cgroup_layout *l, const char *path, int wait_ms, struct err *e)
{
	int tries = wait_ms, failed = 0;
	size_t where = 0;

	for (size_t i = 0; i < l->nh; i++) {
		int rc = remove_in(l->h[i].root_fd, path, &tries);

		if (rc && !failed) {
			failed = rc;
			where = i;
		}
	}
	if (!failed)
		return 0;
	(void)err_sys(e, failed, "cgroup %s: remove from %s", path,
		      *l->h[where].name ? l->h[where].name : "cgroup2");
	return failed == EBUSY ? err_kind_to(e, ERR_STATE) : -1;
}

bool cgroup_exists(const struct cgroup_layout *l, const char *path)
{
	return faccessat(l->h[cgroup_exec_hierarchy(l)].root_fd, path, F_OK, 0) == 0;
}

int cgroup_open_unified(const struct cgroup_layout *l, const char *path, int *out, struct err *e)
{
	int fd;

	if (l->of[CGROUP_UNIFIED] < 0)
		return err_set(e, ERR_NOT_FOUND, "cgroup %s: no cgroup2 is mounted", path);
	fd = openat(l->h[l->of[CGROUP_UNIFIED]].root_fd, path, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return err_sys(e, errno, "cgroup %s: open", path);
	*out = fd;
	return 0;
}
