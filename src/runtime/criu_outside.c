/* What a container has that is not its own: criu.h says why CRIU is told of it. */
#include "runtime/criu.h"

#include "base/fd.h"
#include "base/fs.h"
#include "kernel/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- mounts ------------------------------------------------------------------------------------------- */

/* Where in the container a path really is, links followed; NULL: nowhere. */
static const char *place_of(struct arena *a, const struct criu_container *c, const char *path, struct stat *st)
{
	size_t n = strlen(c->root_path);
	struct err ignored;
	char link[PATH_MAX];
	ssize_t len;
	auto_fd int fd = path_open_in_root(c->root_fd, path, O_PATH, 0, &ignored);

	if (fd < 0 || fstat(fd, st) < 0)
		return NULL;
	len = readlink(arena_printf(a, "/proc/self/fd/%d", fd), link, sizeof(link) - 1);
	if (len < 0)
		return NULL;
	link[len] = '\0';
	if (strncmp(link, c->root_path, n) != 0 || link[n] != '/')
		return NULL;
	return arena_strdup(a, link + n);
}

static bool is_bind(struct arena *a, const struct oci_mount *m, struct mount_options *o)
{
	mount_options_parse(a, m->options, o);
	return o->bind || o->bind_tree || (m->type && streq(m->type, "bind"));
}

static int add_bind(struct arena *a, const struct criu_container *c, const struct oci_mount *m, struct criu_opts *o,
		    struct err *e)
{
	struct mount_options options;
	const char *at;
	struct stat st;

	if (!is_bind(a, m, &options))
		return 0;
	if (options.idmap || m->uid_mappings.count)
		return err_set(e, ERR_UNIMPLEMENTED, "mount %s: CRIU cannot put an idmapped mount back", m->destination);
	at = place_of(a, c, m->destination, &st);
	/* At a restore what lies on a tmpfs (/dev/shm) is not to be seen yet. */
	if (!at && c->mask_dir)
		at = m->destination;
	if (at)
		criu_opts_mount(a, o, at, c->mask_dir ? m->source : at);
	return 0;
}

/* Each hierarchy's mount shows the container's own cgroup (bind_cgroup of child_mounts.c): another one after a restore. */
static void add_cgroups(struct arena *a, const struct criu_container *c, const char *destination, struct criu_opts *o)
{
	const struct cgroup_layout *l = c->cgroups;
	struct stat st;

	for (size_t i = 0; i < l->nh; i++) {
		const char *name = l->mode == CGROUP_V2 ? "" : l->h[i].name, *slash = *name ? "/" : "";
		const char *place = arena_printf(a, "%s%s%s", destination, slash, name);
		const char *at = place_of(a, c, place, &st);
		const char *source = arena_printf(a, "%s%s%s%s%s", l->mount, slash, name, c->cgroup ? "/" : "",
						  c->cgroup ? c->cgroup : "");

		/* At a restore the mount points of v1 lie on a tmpfs that CRIU brings back: not to be seen yet. */
		if (!at)
			at = place;
		criu_opts_mount(a, o, at, c->mask_dir ? source : at);
	}
}

static int own_mount(struct arena *a, const struct criu_container *c, const char *path, bool *is_mount, struct err *e)
{
	struct statx st;
	auto_fd int fd = path_open_in_root(c->root_fd, path, O_PATH, 0, e);

	if (fd < 0)
		return -1;
	(void)a;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &st) < 0)
		return err_sys(e, errno, "stat %s", path);
	*is_mount = st.stx_attributes & STATX_ATTR_MOUNT_ROOT;
	return 0;
}

/* A file's mask has runc's key ("/dev/null"), so that either restores what the other has dumped. */
#define MASK_FILE "/dev/null"
#define MASK_DIR "knarr-mask-dir"

static int add_masks(struct arena *a, const struct criu_container *c, struct criu_opts *o, struct err *e)
{
	struct stat st;

	if (c->mask_dir) {
		criu_opts_mount(a, o, MASK_FILE, arena_printf(a, "%s/file", c->mask_dir));
		criu_opts_mount(a, o, MASK_DIR, arena_printf(a, "%s/dir", c->mask_dir));
		return 0;
	}
	for (char *const *path = c->config->on_linux->masked_paths; path && *path; path++) {
		const char *at = place_of(a, c, *path, &st);
		bool is_mount = false;

		if (!at)
			continue;
		if (own_mount(a, c, *path, &is_mount, e) < 0)
			return -1;
		if (is_mount)
			criu_opts_mount(a, o, at, S_ISDIR(st.st_mode) ? MASK_DIR : MASK_FILE);
	}
	return 0;
}

int criu_external_mounts(struct arena *a, const struct criu_container *c, struct criu_opts *o, struct err *e)
{
	OCI_EACH(oci_mount, m, c->config->mounts) {
		if (m->type && streq(m->type, "cgroup"))
			add_cgroups(a, c, m->destination, o);
		else if (add_bind(a, c, m, o, e) < 0)
			return -1;
	}
	/* Where mknod is forbidden a device is the host's node, bound. */
	OCI_EACH(oci_device, d, c->config->on_linux->devices)
		criu_opts_mount(a, o, d->path, d->path);
	return add_masks(a, c, o, e);
}

char *criu_freezer_path(struct arena *a, const struct cgroup_layout *l, const char *cgroup)
{
	int h = l->of[CGROUP_FREEZER];

	if (h < 0)
		return NULL;
	return l->mode == CGROUP_V2 ? arena_printf(a, "%s/%s", l->mount, cgroup) :
	       arena_printf(a, "%s/%s/%s", l->mount, l->h[h].name, cgroup);
}

char *criu_config_file(const struct oci_config *config)
{
	const char *named = json_map_get(&config->annotations, "org.criu.config");

	if (!named)
		return (char *)"/etc/criu/runc.conf";
	return *named ? (char *)named : NULL;
}

/* --- namespaces --------------------------------------------------------------------------------------- */

static const struct external_ns {
	const char *type, *word, *key;
} external_ns[] = { { "network", "net", "extRootNetNS" }, { "pid", "pid", "extRootPidNS" } };

static const struct external_ns *external_of(const char *type)
{
	for (size_t i = 0; i < ARRAY_SIZE(external_ns); i++)
		if (streq(external_ns[i].type, type))
			return &external_ns[i];
	return NULL;
}

int criu_dump_namespaces(struct arena *a, const struct oci_config *config, struct criu_opts *o, struct err *e)
{
	OCI_EACH(oci_namespace, ns, config->on_linux->namespaces) {
		const struct external_ns *x = external_of(ns->type);
		struct stat st;

		if (!x || str_is_empty(ns->path))
			continue;
		if (stat(ns->path, &st) < 0)
			return err_sys(e, errno, "%s namespace %s", ns->type, ns->path);
		o->external = strv_append(a, o->external, arena_printf(a, "%s[%llu]:%s", x->word, (unsigned long long)st.st_ino,
								       x->key));
	}
	return 0;
}

static int inherit_ns(struct arena *a, const struct oci_namespace *ns, const struct external_ns *x, struct criu_job *job,
		      struct criu_opts *o, struct err *e)
{
	int fd;

	if (job->nfds == CRIU_FDS_MAX)
		return err_set(e, ERR_EXHAUSTED, "too many fds for criu");
	fd = fd_open(AT_FDCWD, ns->path, O_RDONLY, e);
	if (fd < 0)
		return err_in(e, "%s namespace", ns->type);
	criu_opts_inherit(a, o, x->key, CRIU_FD_FIRST + (int)job->nfds);
	job->fds[job->nfds++] = fd;
	return 0;
}

int criu_restore_namespaces(struct arena *a, const struct oci_config *config, struct criu_job *job, struct criu_opts *o,
			    struct err *e)
{
	OCI_EACH(oci_namespace, ns, config->on_linux->namespaces) {
		const struct external_ns *x = external_of(ns->type);

		if (str_is_empty(ns->path))
			continue;
		if (x && inherit_ns(a, ns, x, job, o, e) < 0)
			return -1;
		if (!x && streq(ns->type, "cgroup"))
			return err_set(e, ERR_UNIMPLEMENTED, "linux.namespaces: CRIU cannot join a cgroup namespace (%s)", ns->path);
		if (!x)
			criu_opts_join(a, o, streq(ns->type, "mount") ? "mnt" : ns->type, ns->path);
	}
	return 0;
}

/* --- stdin, stdout, stderr ---------------------------------------------------------------------------- */

#define OUTSIDE "file["          /* then the mount's number, the inode's and "]": CRIU's word for it */

char **criu_descriptors_of(struct arena *a, const char *proc, struct err *e)
{
	char **all = NULL;

	for (int i = 0; i < CRIU_STD_FDS; i++) {
		const char *path = arena_printf(a, "%s/fd/%d", proc, i);
		char link[PATH_MAX];
		ssize_t n = readlink(path, link, sizeof(link) - 1);

		if (n < 0 && errno != ENOENT) {
			(void)err_sys(e, errno, "read the link %s", path);
			return NULL;
		}
		link[MAX(n, 0)] = '\0';
		all = strv_append(a, all, arena_strdup(a, link));
	}
	return all;
}

/* Whether the process's mount namespace has the mount. */
static int has_mount(struct arena *a, pid_t pid, int64_t id, bool *out, struct err *e)
{
	struct str text;

	if (fs_read_file(a, AT_FDCWD, arena_printf(a, "/proc/%d/mountinfo", pid), 16 << 20, &text, e) < 0)
		return -1;
	*out = false;
	while (text.p && !*out) {
		struct str line = str_cut(&text, '\n');
		struct err ignored;
		int64_t n;

		*out = line.len && str_to_i64(str_cut(&line, ' '), &n, &ignored) == 0 && n == id;
	}
	return 0;
}

static int mount_of_fd(struct arena *a, pid_t pid, int fd, int64_t *out, struct err *e)
{
	struct str text;

	if (fs_read_file(a, AT_FDCWD, arena_printf(a, "/proc/%d/fdinfo/%d", pid, fd), 65536, &text, e) < 0)
		return -1;
	while (text.p) {
		struct str line = str_cut(&text, '\n');

		if (str_starts(line, "mnt_id:"))
			return str_to_i64(str_trim((struct str){ line.p + 7, line.len - 7 }), out, e);
	}
	return err_set(e, ERR_DATA_LOSS, "fd %d of process %d has no mnt_id", fd, pid);
}

/* A file of the host (a log, its null device): CRIU finds no mount for it, and gets another fd for it at the restore. */
static int add_outside(struct arena *a, pid_t pid, int fd, char **name, struct criu_opts *o, struct err *e)
{
	const char *path = arena_printf(a, "/proc/%d/fd/%d", pid, fd);
	int64_t mount;
	struct stat st;
	bool inside;

	if ((*name)[0] != '/' || stat(path, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISCHR(st.st_mode)))
		return 0;
	if (mount_of_fd(a, pid, fd, &mount, e) < 0 || has_mount(a, pid, mount, &inside, e) < 0)
		return -1;
	if (inside)
		return 0;
	*name = arena_printf(a, OUTSIDE "%llx:%llx]", (unsigned long long)mount, (unsigned long long)st.st_ino);
	o->external = strv_append(a, o->external, *name);
	return 0;
}

static int write_descriptors(char *const *all, int images_fd, struct err *e)
{
	auto_buf b = BUF(65536);

	for (size_t i = 0; all && all[i]; i++)
		if (buf_addz(&b, i ? "," : "[", e) < 0 || json_write_text(&b, all[i], e) < 0)
			return -1;
	if (buf_addz(&b, all && all[0] ? "]" : "[]", e) < 0)
		return -1;
	return fs_replace(images_fd, CRIU_DESCRIPTORS, b.p, b.len, 0600, 0, e);
}

int criu_dump_descriptors(struct arena *a, pid_t pid, char **was, int images_fd, struct criu_opts *o, struct err *e)
{
	char **now = criu_descriptors_of(a, arena_printf(a, "/proc/%d", pid), e), **all = NULL;

	if (!now)
		return -1;
	/* What it was started with counts; a fd that the program has turned elsewhere meanwhile is no more ours to say. */
	for (int i = 0; i < CRIU_STD_FDS; i++) {
		char *name = arena_strdup(a, was && strv_len(was) == CRIU_STD_FDS ? was[i] : now[i]);

		if (streq(name, now[i]) && add_outside(a, pid, i, &name, o, e) < 0)
			return -1;
		all = strv_append(a, all, name);
	}
	return write_descriptors(all, images_fd, e);
}

int criu_restore_descriptors(struct arena *a, int images_fd, struct criu_opts *o, struct err *e)
{
	struct json *doc;
	struct str text;
	int fd = 0;

	if (fs_read_file(a, images_fd, CRIU_DESCRIPTORS, 65536, &text, e) < 0 || json_parse(a, text, &doc, e) < 0)
		return err_in(e, CRIU_DESCRIPTORS);
	if (doc->type != JSON_ARRAY)
		return err_set(e, ERR_INVALID, CRIU_DESCRIPTORS ": not a list");
	for (const struct json *d = doc->first; d && fd < CRIU_STD_FDS; d = d->next, fd++) {
		if (d->type != JSON_STRING)
			return err_set(e, ERR_INVALID, CRIU_DESCRIPTORS ": not a list of texts");
		if (strstr(d->text.p, "pipe:"))
			criu_opts_inherit(a, o, d->text.p, fd);
		else if (starts_with(d->text.p, OUTSIDE)) /* CRIU takes the first letter for the slash of a path */
			criu_opts_inherit(a, o, d->text.p + 1, fd);
	}
	return 0;
}
