#include "runtime/oci_criu.h"

#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CRIU_MAJOR = 3, CRIU_MINOR = 16 };       /* --lsm-profile, both external namespaces, v2's freezer */

/* --- what restore needs, too ----------------------------------------------------------------------------- */

static int open_folder(struct oci_app *app, const char **path, int *fd, struct err *e)
{
	char absolute[PATH_MAX];

	if (mkdir(*path, 0700) < 0 && errno != EEXIST && fs_mkdirs(AT_FDCWD, *path, 0700, e) < 0)
		return -1;
	if (!realpath(*path, absolute))
		return err_sys(e, errno, "%s", *path);
	*path = arena_strdup(&app->arena, absolute);
	*fd = fd_open(AT_FDCWD, *path, O_RDONLY | O_DIRECTORY, e);
	return *fd < 0 ? -1 : 0;
}

int oci_criu_begin(struct oci_app *app, const struct oci_config *config, struct oci_criu *x, struct err *e)
{
	if (str_is_empty(x->image_path))
		x->image_path = "checkpoint";
	for (char *const *ns = x->empty_ns; ns && *ns; ns++)
		if (!streq(*ns, "network"))
			return err_set(e, ERR_INVALID, "--empty-ns: namespace \"%s\" is not supported", *ns);
	if (criu_cgroups_parse(x->cgroups_mode, &x->opts.cgroups, e) < 0 ||
	    criu_find(&app->arena, app->criu, &x->program, e) < 0 ||
	    criu_need_version(&app->arena, x->program, CRIU_MAJOR, CRIU_MINOR, e) < 0)
		return -1;
	if (open_folder(app, &x->image_path, &x->images_fd, e) < 0)
		return err_in(e, "--image-path");
	if (x->work_path && open_folder(app, &x->work_path, &x->work_fd, e) < 0)
		return err_in(e, "--work-path");
	x->opts.images_dir_fd = x->images_fd;
	x->opts.work_dir_fd = x->work_fd;
	x->opts.empty_namespaces = CLONE_NEWNET; /* an engine or a hook fills it, as with runc */
	x->opts.config_file = criu_config_file(config);
	return 0;
}

void oci_criu_end(struct oci_criu *x)
{
	fd_close(&x->images_fd);
	fd_close(&x->work_fd);
}

void oci_criu_job(const struct oci_criu *x, int type, const char *log, struct criu_job *job)
{
	*job = (struct criu_job)CRIU_JOB_INIT;
	job->program = x->program;
	job->request.type = (enum criu_type)type;
	job->request.opts = &x->opts;
	job->log_dir = x->work_path ? x->work_path : x->image_path;
	job->log_file = log;
}

/* --- checkpoint --------------------------------------------------------------------------------------- */

struct checkpointing {
	struct oci_app *app;
	struct oci_criu x;
	struct oci_record record;
	struct oci_config config;
	bool pre_dump;
	int64_t status_fd;              /* gets a zero byte when lazy pages can be fetched; -1: none */
};

static int parse(struct checkpointing *k, char *const *argv, const char **id, struct err *e)
{
	struct oci_criu *x = &k->x;
	const struct opt opts[] = {
		{ OPT_STR, 0, "image-path", &x->image_path, "PATH", "where the images go (checkpoint)" },
		{ OPT_STR, 0, "work-path", &x->work_path, "PATH", "where the log goes (--image-path)" },
		{ OPT_STR, 0, "parent-path", &x->parent_path, "PATH", "images of the pre-dump before, relative to --image-path" },
		{ OPT_FLAG, 0, "leave-running", &x->opts.leave_running, NULL, "the container goes on" },
		{ OPT_FLAG, 0, "tcp-established", &x->opts.tcp_established, NULL, "allows open TCP connections" },
		{ OPT_FLAG, 0, "tcp-skip-in-flight", &x->opts.tcp_skip_in_flight, NULL, "leaves out connections not yet accepted" },
		{ OPT_FLAG, 0, "link-remap", &x->opts.link_remap, NULL, "links unlinked files back where possible" },
		{ OPT_FLAG, 0, "ext-unix-sk", &x->opts.ext_unix_sk, NULL, "allows unix sockets to the outside" },
		{ OPT_FLAG, 0, "shell-job", &x->opts.shell_job, NULL, "allows a terminal from outside" },
		{ OPT_FLAG, 0, "lazy-pages", &x->opts.lazy_pages, NULL, "memory is fetched after the restore" },
		{ OPT_I64, 0, "status-fd", &k->status_fd, "FD", "gets a zero byte when lazy pages are ready" },
		{ OPT_STR, 0, "page-server", &x->page_server, "ADDRESS:PORT", "where memory goes" },
		{ OPT_FLAG, 0, "file-locks", &x->opts.file_locks, NULL, "keeps file locks" },
		{ OPT_FLAG, 0, "pre-dump", &k->pre_dump, NULL, "memory only; the container goes on" },
		{ OPT_STR, 0, "manage-cgroups-mode", &x->cgroups_mode, "MODE", "soft, full, strict, ignore" },
		{ OPT_STRV, 0, "empty-ns", &x->empty_ns, "TYPE", "a namespace without its properties: network" },
		{ OPT_FLAG, 0, "auto-dedup", &x->opts.auto_dedup, NULL, "frees what the parent images have again" },
		{ 0 },
	};
	char **words;

	if (oci_options(k->app, opts, 0, argv, &words, e) < 0)
		return -1;
	if (strv_len(words) != 1)
		return err_set(e, ERR_INVALID, "checkpoint: exactly one container id is needed");
	*id = words[0];
	return 0;
}

static int page_server(struct checkpointing *k, struct err *e)
{
	const char *text = k->x.page_server, *colon = text ? strrchr(text, ':') : NULL;
	struct criu_opts *o = &k->x.opts;
	size_t n = colon ? (size_t)(colon - text) : 0;
	int64_t port;

	if (!text)
		return 0;
	if (n > 2 && text[0] == '[' && text[n - 1] == ']') {
		text++;
		n -= 2;
	}
	if (!n || str_to_i64(str_of(colon + 1), &port, e) < 0 || port < 1 || port > 65535)
		return err_set(e, ERR_INVALID, "--page-server: \"%s\" is not ADDRESS:PORT", k->x.page_server);
	o->page_server_address = arena_strndup(&k->app->arena, text, n);
	o->page_server_port = (int32_t)port;
	return 0;
}

static int parent(struct checkpointing *k, struct err *e)
{
	const char *path = k->x.parent_path;
	struct stat st;

	if (str_is_empty(path))
		return 0;
	if (path[0] == '/')
		return err_set(e, ERR_INVALID, "--parent-path: %s is not relative", path);
	if (fstatat(k->x.images_fd, path, &st, 0) < 0)
		return err_sys(e, errno, "--parent-path: %s", path);
	if (!S_ISDIR(st.st_mode))
		return err_set(e, ERR_INVALID, "--parent-path: %s is not a folder", path);
	k->x.opts.parent_img = (char *)path;
	k->x.opts.track_mem = true;
	return 0;
}

static int features(struct checkpointing *k, struct err *e)
{
	if (k->status_fd >= 0) {
		int flags = k->status_fd > INT_MAX ? -1 : fcntl((int)k->status_fd, F_GETFL);

		if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY)
			return err_set(e, ERR_INVALID, "--status-fd: fd %lld is not open for writing", (long long)k->status_fd);
	}
	if (k->pre_dump && criu_need_feature(&k->app->arena, k->x.program, CRIU_FEATURE_MEM_TRACK, e) < 0)
		return -1;
	return k->x.opts.lazy_pages ? criu_need_feature(&k->app->arena, k->x.program, CRIU_FEATURE_LAZY_PAGES, e) : 0;
}

static int outside(struct checkpointing *k, struct err *e)
{
	struct arena *a = &k->app->arena;
	auto_fd int root = fd_open(AT_FDCWD, arena_printf(a, "/proc/%d/root", k->record.pid), O_PATH | O_DIRECTORY, e);
	struct criu_container c = { .config = &k->config, .cgroups = &k->app->rt.cgroups, .cgroup = k->record.cgroup,
				    .root_fd = root, .root_path = "" };

	if (root < 0)
		return -1;
	if (criu_external_mounts(a, &c, &k->x.opts, e) < 0 || criu_dump_namespaces(a, &k->config, &k->x.opts, e) < 0)
		return -1;
	return criu_dump_descriptors(a, k->record.pid, k->record.stdio, k->x.images_fd, &k->x.opts, e);
}

static int on_notify(void *ctx, const struct criu_response *r, int fd, struct err *e)
{
	struct checkpointing *k = ctx;
	int status = (int)k->status_fd;

	(void)fd;
	if (!streq(r->script, "status-ready") || status < 0)
		return 0;
	k->status_fd = -1;
	if (fd_write_all(status, "", 1, e) < 0)
		return err_in(e, "--status-fd");
	return close(status) < 0 ? err_sys(e, errno, "--status-fd") : 0;
}

static int dump(struct checkpointing *k, struct err *e)
{
	struct criu_response r;
	struct criu_job job;

	k->x.opts.pid = k->record.pid;
	k->x.opts.root = k->record.rootfs;
	k->x.opts.log_file = (char *)"dump.log";
	if (k->record.cgroup)
		k->x.opts.freeze_cgroup = criu_freezer_path(&k->app->arena, &k->app->rt.cgroups, k->record.cgroup);
	if (page_server(k, e) < 0 || parent(k, e) < 0 || features(k, e) < 0 || outside(k, e) < 0)
		return -1;
	oci_criu_job(&k->x, k->pre_dump ? CRIU_PRE_DUMP : CRIU_DUMP, "dump.log", &job);
	job.notify = on_notify;
	job.ctx = k;
	return criu_run(&k->app->arena, &job, &r, e) < 0 ? err_in(e, "checkpoint of %s", k->record.id) : 0;
}

int oci_checkpoint_command(struct oci_app *app, char *const *argv, struct err *e)
{
	struct checkpointing k = { .app = app, .x = OCI_CRIU_INIT, .status_fd = -1 };
	auto_fd int pidfd = -1;
	enum oci_status status;
	const char *id = NULL;
	int rc;

	if (parse(&k, argv, &id, e) < 0 || oci_record_load(app, id, &k.record, e) < 0 || oci_runtime(app, e) < 0)
		return -1;
	status = oci_record_status(app, &k.record, &pidfd);
	if (status != OCI_RUNNING && status != OCI_PAUSED)
		return err_set(e, ERR_STATE, "Container cannot be checkpointed in %s state", oci_status_name(status));
	if (oci_bundle_load(app, k.record.bundle, &k.config, e) < 0 || oci_annotations_apply(app, &k.config, e) < 0)
		return -1;
	if (geteuid() != 0)
		log_warn("checkpoint needs root's rights: CRIU may refuse");
	rc = oci_criu_begin(app, &k.config, &k.x, e);
	if (rc == 0)
		rc = dump(&k, e);
	oci_criu_end(&k.x);
	if (rc < 0 || k.x.opts.leave_running || k.pre_dump)
		return rc;
	return oci_record_end(app, &k.record, e);
}
