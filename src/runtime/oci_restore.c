#include "runtime/oci_criu.h"
#include "runtime/oci_making.h"

#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/str.h"
#include "kernel/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

struct restoring {
	struct making m;
	struct oci_criu x;
	struct criu_job job;
	const char *root, *masks;       /* folders of the record: the root bound, the masks' tmpfs */
};

static int parse(struct restoring *k, char *const *argv, const char **id, struct err *e)
{
	struct oci_criu *x = &k->x;
	struct create_options *o = &k->m.o;
	const struct opt opts[] = {
		{ OPT_STR, 'b', "bundle", &o->bundle, "PATH", "the bundle's folder" },
		{ OPT_STR, 0, "console-socket", &o->console_socket, "PATH", "receives the terminal" },
		{ OPT_STR, 0, "image-path", &x->image_path, "PATH", "where the images are (checkpoint)" },
		{ OPT_STR, 0, "work-path", &x->work_path, "PATH", "where the log goes (--image-path)" },
		{ OPT_FLAG, 0, "tcp-established", &x->opts.tcp_established, NULL, "allows open TCP connections" },
		{ OPT_FLAG, 0, "ext-unix-sk", &x->opts.ext_unix_sk, NULL, "allows unix sockets to the outside" },
		{ OPT_FLAG, 0, "shell-job", &x->opts.shell_job, NULL, "allows a terminal from outside" },
		{ OPT_FLAG, 0, "file-locks", &x->opts.file_locks, NULL, "keeps file locks" },
		{ OPT_STR, 0, "manage-cgroups-mode", &x->cgroups_mode, "MODE", "soft, full, strict, ignore" },
		{ OPT_FLAG, 'd', "detach", &o->detach, NULL, "does not wait" },
		{ OPT_STR, 0, "pid-file", &o->pid_file, "PATH", "gets the process's number" },
		{ OPT_FLAG, 0, "no-subreaper", &o->no_subreaper, NULL, "is no subreaper" },
		{ OPT_FLAG, 0, "no-pivot", &o->no_pivot, NULL, "as create; CRIU decides" },
		{ OPT_STRV, 0, "empty-ns", &x->empty_ns, "TYPE", "a namespace without its properties: network" },
		{ OPT_FLAG, 0, "auto-dedup", &x->opts.auto_dedup, NULL, "frees images as they are read" },
		{ OPT_FLAG, 0, "lazy-pages", &x->opts.lazy_pages, NULL, "memory is fetched when it is used" },
		{ OPT_STR, 0, "lsm-profile", &x->opts.lsm_profile, "TYPE:NAME", "another profile than the checkpoint's" },
		{ OPT_STR, 0, "lsm-mount-context", &x->opts.lsm_mount_context, "LABEL", "another context of the mounts" },
		{ 0 },
	};
	char **words;

	if (oci_options(k->m.app, opts, 0, argv, &words, e) < 0)
		return -1;
	if (strv_len(words) != 1)
		return err_set(e, ERR_INVALID, "restore: exactly one container id is needed");
	*id = words[0];
	return 0;
}

/* --- the root, as CRIU wants it ---------------------------------------------------------------------------- */

/* A mount point of its own (which CRIU demands), shared with nobody. */
static int bind_root(const struct restoring *k, struct err *e)
{
	if (mount(k->m.record.rootfs, k->root, NULL, MS_BIND | MS_REC, NULL) < 0 ||
	    mount(NULL, k->root, NULL, MS_PRIVATE | MS_REC, NULL) < 0)
		return err_sys(e, errno, "bind %s to %s", k->m.record.rootfs, k->root);
	return 0;
}

/* What CRIU brings back with its contents, mount points among them. */
static bool is_on_tmpfs(const struct oci_config *c, const struct oci_mount *m)
{
	OCI_EACH(oci_mount, t, c->mounts)
		if (t != m && t->type && streq(t->type, "tmpfs") && starts_with(m->destination, t->destination) &&
		    m->destination[strlen(t->destination)] == '/')
			return true;
	return false;
}

/* The mount point; a bind is mounted, too, since others may lie in it. */
static int make_place(const struct restoring *k, const struct oci_mount *m, int root, struct err *e)
{
	struct mount_options o;
	auto_fd int at = -1, fd = -1;
	struct stat st;
	bool bind;

	mount_options_parse(&k->m.app->arena, m->options, &o);
	bind = o.bind || o.bind_tree || (m->type && streq(m->type, "bind"));
	if (bind && stat(m->source, &st) < 0)
		return err_sys(e, errno, "mount %s: %s", m->destination, m->source);
	at = container_place(root, m->destination, !bind || S_ISDIR(st.st_mode), e);
	if (at < 0 || !bind)
		return at < 0 ? -1 : 0;
	fd = mount_clone(AT_FDCWD, m->source, o.bind_tree, e);
	return fd < 0 ? -1 : mount_move_onto(fd, at, m->destination, e);
}

static int make_places(const struct restoring *k, struct err *e)
{
	auto_fd int root = fd_open(AT_FDCWD, k->root, O_PATH | O_DIRECTORY, e);

	if (root < 0)
		return -1;
	OCI_EACH(oci_mount, m, k->m.config.mounts) {
		if ((m->type && streq(m->type, "cgroup")) || is_on_tmpfs(&k->m.config, m))
			continue;
		if (make_place(k, m, root, e) < 0)
			return -1;
	}
	return 0;
}

static int make_masks(const struct restoring *k, struct err *e)
{
	auto_fd int file = -1;

	if (mkdir(k->masks, 0755) < 0 || mount("tmpfs", k->masks, "tmpfs", 0, "mode=755,size=4k,nr_inodes=4") < 0)
		return err_sys(e, errno, "mount %s", k->masks);
	file = fd_create(AT_FDCWD, path_join(&k->m.app->arena, k->masks, "file"), O_WRONLY | O_CREAT | O_EXCL, 0444, e);
	if (file < 0)
		return -1;
	fd_close(&file); /* a file open for writing would keep the file system writable */
	if (mkdir(path_join(&k->m.app->arena, k->masks, "dir"), 0555) < 0 ||
	    mount(NULL, k->masks, NULL, MS_REMOUNT | MS_RDONLY, NULL) < 0)
		return err_sys(e, errno, "prepare %s", k->masks);
	return 0;
}

static int make_root(const struct restoring *k, struct err *e)
{
	int rc;

	if (mkdir(k->root, 0755) < 0)
		return err_sys(e, errno, "make %s", k->root);
	if (bind_root(k, e) < 0)
		return -1;
	rc = make_places(k, e);
	if (umount2(k->root, MNT_DETACH) < 0 && rc == 0)
		return err_sys(e, errno, "unmount %s", k->root);
	return rc < 0 || bind_root(k, e) < 0 ? -1 : make_masks(k, e);
}

/* The container has its own mounts by then. What was never mounted is no error. */
static void drop_root(const struct restoring *k)
{
	(void)umount2(k->masks, MNT_DETACH);
	(void)rmdir(k->masks);
	(void)umount2(k->root, MNT_DETACH);
	(void)rmdir(k->root);
}

/* --- criu's turn ------------------------------------------------------------------------------------------- */

/* CRIU restores where it is itself. */
static int on_born(void *ctx, pid_t pid, struct err *e)
{
	struct restoring *k = ctx;
	struct arena *a = &k->m.app->arena;
	struct str text;

	if (!k->m.spec.cgroup)
		return 0;
	if (cgroup_join_pid(&k->m.app->rt.cgroups, k->m.spec.cgroup, pid, e) < 0 ||
	    fs_read_file(a, AT_FDCWD, arena_printf(a, "/proc/%d/cgroup", pid), 65536, &text, e) < 0)
		return -1;
	while (text.p) {
		struct str line = str_cut(&text, '\n'), names;

		(void)str_cut(&line, ':');
		names = str_cut(&line, ':');
		if (!line.p)
			continue;
		do
			criu_opts_cgroup_root(a, &k->x.opts, str_dup(a, str_cut(&names, ',')), str_dup(a, line));
		while (names.p);
	}
	return 0;
}

static int run_hooks(const struct restoring *k, pid_t pid, struct err *e)
{
	const struct oci_hooks *h = k->m.config.hooks;
	const struct oci_record *r = &k->m.record;
	struct oci_state state = {
		.oci_version = (char *)OCI_VERSION, .id = r->id, .status = (char *)oci_status_name(OCI_CREATING), .pid = pid,
		.bundle = r->bundle, .annotations = r->annotations,
	};

	if (!h)
		return 0;
	return container_hooks_run("prestart", &h->prestart, NULL, &state, e) < 0 ? -1 :
	       container_hooks_run("createRuntime", &h->create_runtime, NULL, &state, e);
}

static int on_restored(struct restoring *k, pid_t pid, struct err *e)
{
	k->m.process.pid = pid;
	k->m.process.pidfd = proc_pidfd_open(pid, e);
	return k->m.process.pidfd < 0 ? -1 : oci_making_save(&k->m, e);
}

static int on_notify(void *ctx, const struct criu_response *r, int fd, struct err *e)
{
	struct restoring *k = ctx;

	if (streq(r->script, "setup-namespaces"))
		return run_hooks(k, r->script_pid, e);
	if (streq(r->script, "post-restore"))
		return on_restored(k, r->script_pid, e);
	if (streq(r->script, "orphan-pts-master") && fd >= 0 && k->m.process.console_fd < 0) {
		k->m.process.console_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		if (k->m.process.console_fd < 0)
			return err_sys(e, errno, "keep the terminal");
	}
	return 0;
}

static int outside(struct restoring *k, struct err *e)
{
	struct arena *a = &k->m.app->arena;
	auto_fd int root = fd_open(AT_FDCWD, k->root, O_PATH | O_DIRECTORY, e);
	struct criu_container c = { .config = &k->m.config, .cgroups = &k->m.app->rt.cgroups, .cgroup = k->m.spec.cgroup,
				    .root_fd = root, .root_path = k->root, .mask_dir = k->masks };

	if (root < 0)
		return -1;
	if (criu_external_mounts(a, &c, &k->x.opts, e) < 0 ||
	    criu_restore_namespaces(a, &k->m.config, &k->job, &k->x.opts, e) < 0)
		return -1;
	return criu_restore_descriptors(a, k->x.images_fd, &k->x.opts, e);
}

static int run_criu(struct restoring *k, struct err *e)
{
	struct criu_response r;
	int rc;

	k->x.opts.root = (char *)k->root;
	k->x.opts.rst_sibling = k->x.opts.evasive_devices = true;
	k->x.opts.log_file = (char *)"restore.log";
	oci_criu_job(&k->x, CRIU_RESTORE, "restore.log", &k->job);
	k->job.born = on_born;
	k->job.notify = on_notify;
	k->job.ctx = k;
	for (int i = 0; i < CRIU_STD_FDS; i++)
		k->job.std[i] = k->m.config.process->terminal ? -1 : i;
	rc = outside(k, e);
	if (rc == 0)
		rc = criu_run(&k->m.app->arena, &k->job, &r, e);
	for (size_t i = 0; i < k->job.nfds; i++)
		fd_close(&k->job.fds[i]);
	if (rc == 0 && k->m.process.pidfd < 0)
		rc = err_set(e, ERR_INTERNAL, "criu restored no process");
	return rc < 0 ? err_in(e, "restore of %s", k->m.record.id) : 0;
}

static int restore(struct restoring *k, struct err *e)
{
	struct oci_app *app = k->m.app;
	bool made = false;
	char absolute[PATH_MAX];
	int rc;

	/* CRIU's words for places are compared with what the kernel says of them. */
	if (!realpath(app->root, absolute))
		return err_sys(e, errno, "--root: %s", app->root);
	app->root = arena_strdup(&app->arena, absolute);
	k->root = oci_record_path(app, k->m.record.id, "criu-root");
	k->masks = oci_record_path(app, k->m.record.id, "criu-mask");
	if (oci_criu_begin(app, &k->m.config, &k->x, e) < 0)
		return -1;
	if (app->systemd_cgroup && oci_scope_begin(app, &k->m.unit, &k->m.config, &k->m.holder, e) < 0)
		return -1;
	if (k->m.spec.cgroup && container_cgroup_make(&app->arena, &app->rt, &k->m.spec, &made, e) < 0)
		return -1;
	if (!k->m.spec.cgroup)
		k->x.opts.cgroups = CRIU_CGROUPS_IGNORE;
	rc = make_root(k, e);
	if (rc == 0)
		rc = run_criu(k, e);
	drop_root(k);
	if (rc == 0)
		rc = oci_scope_begun(app, &k->m.unit, &k->m.config, &k->m.holder, e);
	if (rc < 0 && made) {
		struct err ignored;

		(void)container_cgroup_remove(&app->rt.cgroups, k->m.spec.cgroup, 2000, &ignored);
	}
	return rc;
}

int oci_restore_command(struct oci_app *app, char *const *argv, struct err *e)
{
	struct restoring k = { .m = MAKING_INIT(app), .x = OCI_CRIU_INIT };
	const char *id = NULL;
	int rc;

	if (parse(&k, argv, &id, e) < 0 || oci_making_begin(&k.m, id, !k.m.o.detach, e) < 0)
		return -1;
	if (geteuid() != 0)
		log_warn("restore needs root's rights: CRIU may refuse");
	if (!k.m.o.detach && !k.m.o.no_subreaper)
		(void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); /* orphans are reaped by our end at the latest */
	rc = restore(&k, e);
	oci_criu_end(&k.x);
	if (rc < 0) {
		oci_making_give_up(&k.m);
		return -1;
	}
	return oci_making_end(&k.m, e);
}
