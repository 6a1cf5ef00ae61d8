/* CheckpointContainer: CRIU's images and what belongs to them, in one archive. */
#include "pod/checkpoint.h"
#include "pod/handler.h"

#include "base/log.h"
#include "image/image.h"
#include "image/tar_write.h"
#include "runtime/criu.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CONFIG_MAX = 16 << 20, DELETED_MAX = 17 << 20, CRIU_MAJOR = 3, CRIU_MINOR = 16 };

struct checkpointing {
	struct container *k;
	struct call *c;
	int64_t until_ns;               /* CLOCK_MONOTONIC; 0: no limit */
	pid_t pid;
	const char *location, *part;    /* the archive, and its name while it is written */
	const char *folder, *images;    /* what lies on the disk meanwhile */
	struct str spec;
	struct oci_config config;
};

static int check(const struct checkpointing *x, struct err *e)
{
	if (call_check(x->c, e) < 0)
		return -1;
	return x->until_ns && clock_mono_ns() > x->until_ns ? err_set(e, ERR_TIMEOUT, "it takes longer than was asked for") : 0;
}

/* --- the words beside the images ------------------------------------------------------------------------ */

/* config.dump, as checkpointctl, podman and CRI-O know it. */
struct words {
	char *id, *name, *image, *image_ref, *image_name, *runtime, *created, *checkpointed;
};
static const struct json_field words_fields[] = {
	{ "id", JSON_STR, offsetof(struct words, id) },
	{ "name", JSON_STR, offsetof(struct words, name) },
	{ "rootfsImage", JSON_STR, offsetof(struct words, image) },
	{ "rootfsImageRef", JSON_STR, offsetof(struct words, image_ref) },
	{ "rootfsImageName", JSON_STR, offsetof(struct words, image_name) },
	{ "runtime", JSON_STR, offsetof(struct words, runtime) },
	{ "createdTime", JSON_STR, offsetof(struct words, created) },
	{ "checkpointedTime", JSON_STR, offsetof(struct words, checkpointed) },
	{ 0 },
};

static char *when(struct arena *a, int64_t wall_ns)
{
	char *text = arena_alloc(a, CLOCK_TEXT_MAX);

	clock_format_rfc3339(wall_ns, text);
	return text;
}

static int write_words(const struct checkpointing *x, int out, struct err *e)
{
	struct container *k = x->k;
	const struct words w = {
		.id = k->id, .name = k->config->name, .image = k->config->image, .image_ref = (char *)k->image_id,
		.image_name = k->config->image, .runtime = (char *)"native",
		.created = when(&x->c->arena, k->created_wall_ns), .checkpointed = when(&x->c->arena, clock_wall_ns()),
	};
	auto_buf b = BUF(1 << 20);

	return json_write(&b, words_fields, &w, e) < 0 ? -1 : tar_write_text(out, "config.dump", buf_str(&b), e);
}

/* bind.mounts: what a restore must have at hand of the host. */
static int write_binds(const struct checkpointing *x, int out, struct err *e)
{
	const struct container_bind *binds = x->k->binds.p;
	const struct oci_mount *mounts = x->config.mounts.p;
	auto_buf b = BUF(16 << 20);

	if (buf_addz(&b, "[", e) < 0)
		return -1;
	for (size_t i = 0; i < x->k->binds.count; i++) {
		struct stat st = { 0 };

		if (binds[i].mount >= x->config.mounts.count)
			return err_set(e, ERR_DATA_LOSS, "config.json of container %s has no mount %u", x->k->id, binds[i].mount);
		(void)stat(binds[i].source, &st); /* gone meanwhile: it is named all the same */
		if (buf_addz(&b, i ? ",{\"source\":" : "{\"source\":", e) < 0 || json_write_text(&b, binds[i].source, e) < 0 ||
		    buf_addz(&b, ",\"destination\":", e) < 0 ||
		    json_write_text(&b, mounts[binds[i].mount].destination, e) < 0 ||
		    buf_addf(&b, e, ",\"file_type\":\"%s\",\"permissions\":%u}", S_ISDIR(st.st_mode) ? "directory" : "file",
			     st.st_mode & 07777) < 0)
			return -1;
	}
	return buf_addz(&b, "]", e) < 0 ? -1 : tar_write_text(out, "bind.mounts", buf_str(&b), e);
}

/* --- the archive --------------------------------------------------------------------------------------- */

static int add_file(int out, int dir, const char *name, const char *path, struct err *e)
{
	struct tar_entry t = { .type = TAR_FILE, .path = path, .mode = 0600 };
	auto_fd int fd = fd_open(dir, name, O_RDONLY | O_NOFOLLOW, e);
	struct stat st;

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) < 0)
		return err_sys(e, errno, "%s", path);
	t.size = (uint64_t)st.st_size;
	t.mtime_s = st.st_mtim.tv_sec;
	return tar_write_entry(out, &t, e) < 0 ? -1 : tar_write_from(out, fd, t.size, e);
}

static int add_images(const struct checkpointing *x, int out, struct err *e)
{
	const struct tar_entry top = { .type = TAR_DIR, .path = "checkpoint/", .mode = 0700 };
	struct arena *a = &x->c->arena;
	struct dirent *entry;
	DIR *dir = opendir(x->images);
	int rc = dir ? tar_write_entry(out, &top, e) : err_sys(e, errno, "list %s", x->images);

	while (rc == 0 && (entry = readdir(dir))) {
		const char *name = entry->d_name;

		if (entry->d_type != DT_REG)
			continue;
		/* The log is for who looks at the archive, beside the images. */
		rc = check(x, e) < 0 ? -1 : add_file(out, dirfd(dir), name, streq(name, "dump.log") ? "dump.log" :
						     arena_printf(a, "checkpoint/%s", name), e);
	}
	if (dir)
		(void)closedir(dir);
	return rc;
}

static int write_archive(const struct checkpointing *x, struct str deleted, struct err *e)
{
	auto_fd int out = fd_create(AT_FDCWD, x->part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600, e), dir = -1;

	if (out < 0)
		return -1;
	dir = fd_open(AT_FDCWD, x->folder, O_RDONLY | O_DIRECTORY, e);
	if (dir < 0 || write_words(x, out, e) < 0 || tar_write_text(out, "spec.dump", x->spec, e) < 0 ||
	    write_binds(x, out, e) < 0 || tar_write_text(out, "deleted.files", deleted, e) < 0 ||
	    add_file(out, dir, "rootfs-diff.tar", "rootfs-diff.tar", e) < 0 || add_images(x, out, e) < 0 ||
	    tar_write_end(out, e) < 0)
		return -1;
	if (fdatasync(out) < 0 || rename(x->part, x->location) < 0)
		return err_sys(e, errno, "%s", x->location);
	return 0;
}

/* --- the moment ---------------------------------------------------------------------------------------- */

static int outside(const struct checkpointing *x, int images_fd, struct criu_opts *o, struct err *e)
{
	struct arena *a = &x->c->arena;
	const struct pods *ps = x->k->all;
	auto_fd int root = fd_open(AT_FDCWD, arena_printf(a, "/proc/%d/root", x->pid), O_PATH | O_DIRECTORY, e);
	const struct criu_container c = { .config = &x->config, .cgroups = &ps->cgroups, .cgroup = x->k->cgroup_path,
					  .root_fd = root, .root_path = "" };

	if (root < 0)
		return -1;
	if (criu_external_mounts(a, &c, o, e) < 0 || criu_dump_namespaces(a, &x->config, o, e) < 0)
		return -1;
	return criu_dump_descriptors(a, x->pid, NULL, images_fd, o, e);
}

static int dump(const struct checkpointing *x, const char *program, struct err *e)
{
	struct arena *a = &x->c->arena;
	auto_fd int images = fd_open(AT_FDCWD, x->images, O_RDONLY | O_DIRECTORY, e);
	struct criu_opts o = {
		.images_dir_fd = images, .work_dir_fd = -1, .pid = x->pid, .log_level = 4, .log_file = (char *)"dump.log",
		.leave_running = true, .tcp_established = true, .file_locks = true, .link_remap = true, .ext_unix_sk = true,
		.manage_cgroups = true, .cgroups_given = true, .cgroups = CRIU_CGROUPS_DEFAULT, .orphan_pts_master = true,
		.notify_scripts = true, .config_file = criu_config_file(&x->config),
		.freeze_cgroup = criu_freezer_path(a, &x->k->all->cgroups, x->k->cgroup_path),
	};
	struct criu_response response;
	struct criu_job job = CRIU_JOB_INIT;

	if (images < 0 || outside(x, images, &o, e) < 0)
		return -1;
	job.program = program;
	job.request.type = CRIU_DUMP;
	job.request.opts = &o;
	job.log_dir = x->images;
	job.log_file = "dump.log";
	return criu_run(a, &job, &response, e);
}

/* Memory and files of one moment. */
static int cut(const struct checkpointing *x, const char *program, struct buf *deleted, struct err *e)
{
	const struct cgroup_layout *l = &x->k->all->cgroups;
	auto_fd int diff = fd_create(AT_FDCWD, path_join(&x->c->arena, x->folder, "rootfs-diff.tar"),
				     O_WRONLY | O_CREAT | O_EXCL, 0600, e);
	struct err thawing;
	int rc;

	if (diff < 0 || cgroup_freeze(l, x->k->cgroup_path, e) < 0)
		return -1;
	rc = dump(x, program, e);
	if (rc == 0)
		rc = check(x, e);
	if (rc == 0)
		rc = checkpoint_diff(x->k, x->c, diff, deleted, e);
	if (cgroup_thaw(l, x->k->cgroup_path, &thawing) == 0)
		return rc;
	log_error("container stays frozen container=%s: %s", x->k->id, thawing.msg);
	if (rc == 0)
		*e = thawing;
	return -1;
}

/* --- the call ------------------------------------------------------------------------------------------ */

static int begin(struct checkpointing *x, struct err *e)
{
	struct container *k = x->k;

	LOCKED(&k->all->lock);
	while (k->busy || k->state == CONTAINER_STARTING)
		if (cond_wait(x->c, &k->changed, &k->all->lock, e) < 0)
			return -1;
	if (k->state != CONTAINER_RUNNING)
		return err_set(e, ERR_STATE, "container %s is %s, not running", k->id, container_state_name[k->state]);
	x->pid = k->pid;
	k->busy = true;
	return 0;
}

static void end(struct container *k)
{
	LOCKED(&k->all->lock);

	k->busy = false;
	cond_broadcast(&k->changed);
}

static int prepare(struct checkpointing *x, struct err *e)
{
	struct arena *a = &x->c->arena;

	x->folder = container_path(a, x->k, "checkpoint");
	x->images = arena_printf(a, "%s/images", x->folder);
	x->part = arena_printf(a, "%s.part", x->location);
	if (fs_read_file(a, AT_FDCWD, container_path(a, x->k, "config.json"), CONFIG_MAX, &x->spec, e) < 0 ||
	    oci_config_read(a, x->spec, &x->config, e) < 0)
		return -1;
	if (!x->config.on_linux || !x->config.process)
		return err_set(e, ERR_DATA_LOSS, "config.json of container %s is not whole", x->k->id);
	/* What a knarrd that was killed meanwhile has left. */
	if (fs_remove_tree(AT_FDCWD, x->folder, e) < 0)
		return -1;
	return fs_mkdirs(AT_FDCWD, x->images, 0700, e);
}

static int checkpoint(struct checkpointing *x, struct err *e)
{
	auto_buf deleted = BUF(DELETED_MAX);
	const char *program;
	struct err ignored;
	int rc;

	if (criu_find(&x->c->arena, x->k->all->settings.criu, &program, e) < 0 ||
	    criu_need_version(&x->c->arena, program, CRIU_MAJOR, CRIU_MINOR, e) < 0)
		return -1;
	rc = prepare(x, e);
	if (rc == 0)
		rc = cut(x, program, &deleted, e);
	if (rc == 0)
		rc = write_archive(x, buf_str(&deleted), e);
	if (rc < 0)
		(void)unlink(x->part);
	if (fs_remove_tree(AT_FDCWD, x->folder, &ignored) < 0)
		log_warn("checkpoint's files stay container=%s: %s", x->k->id, ignored.msg);
	return rc;
}

int container_checkpoint(struct pods *ps, struct call *c, enum pod_owner owner, const char *id, const char *location,
			 int64_t timeout_ns, struct err *e)
{
	auto_container *k = NULL;
	struct checkpointing x = { .c = c, .location = location };
	int rc;

	if (location[0] != '/')
		return err_set(e, ERR_INVALID, "location: \"%s\" is not an absolute path", location);
	k = container_get(ps, owner, id, e);
	if (!k)
		return -1;
	/* What its processes are and where its files lie is that runtime's to know. */
	if (handler_is_foreign(k->pod))
		return err_set(e, ERR_UNIMPLEMENTED, "container %s runs by the handler %s: only native containers can be checkpointed",
			       k->id, k->pod->runtime);
	x.k = k;
	x.until_ns = timeout_ns > 0 && timeout_ns < INT64_MAX / 2 ? clock_mono_ns() + timeout_ns : 0;
	if (begin(&x, e) < 0)
		return -1;
	rc = checkpoint(&x, e);
	end(k);
	if (rc < 0)
		return err_in(e, "checkpoint of container %s", k->id);
	log_info("checkpoint written container=%s file=%s", k->id, location);
	return 0;
}
