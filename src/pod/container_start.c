/* StartContainer: opens what knarr-pod cannot see, and asks it to run the container. */
#include "pod/handler.h"

#include "base/log.h"
#include "image/image.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LOG_MODE = 0640 };

/* All that one start holds open; closed by files_close(). */
struct start_files {
	int config_fd, log_fd;
	struct monitor_mount_fd mounts[MONITOR_MOUNT_FDS_MAX];
	size_t nmounts;
};

static void files_close(struct start_files *f)
{
	fd_close(&f->config_fd);
	fd_close(&f->log_fd);
	for (size_t i = 0; i < f->nmounts; i++)
		fd_close(&f->mounts[i].fd);
	f->nmounts = 0;
}
#define auto_files AUTO(files_close) struct start_files

/* A clone keeps the source's peer group, so that Bidirectional and HostToContainer work. */
static int open_source(const struct container *k, const struct container_bind *b, int userns_fd, struct err *e)
{
	int image;

	if (b->image)
		return image_mount(k->all->images, b->image, b->sub_path, userns_fd, &image, e) < 0 ? -1 : image;
	unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (b->recursive ? AT_RECURSIVE : 0);
	int fd = (int)syscall(SYS_open_tree, AT_FDCWD, b->source, flags);

	return fd < 0 ? err_sys(e, errno, "mount source %s", b->source) : fd;
}

static int open_sources(const struct container *k, struct start_files *f, struct err *e)
{
	auto_fd int userns = -1;
	const struct container_bind *binds = k->binds.p;

	if (k->binds.count > MONITOR_MOUNT_FDS_MAX)
		return err_set(e, ERR_EXHAUSTED, "container %s has %zu mounts of the host, at most %d can be made",
			       k->id, k->binds.count, MONITOR_MOUNT_FDS_MAX);
	if (pod_userns_open(k->pod, &userns, e) < 0)
		return -1;
	for (size_t i = 0; i < k->binds.count; i++) {
		int fd = open_source(k, &binds[i], userns, e);

		if (fd < 0)
			return -1;
		f->mounts[f->nmounts++] = (struct monitor_mount_fd){ binds[i].mount, fd };
	}
	return 0;
}

static int log_open(const struct container *k, struct err *e)
{
	auto_arena a = { 0 };
	const char *path = k->log_path;
	int fd = fd_create(AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, LOG_MODE, e);

	if (fd >= 0 || e->kind != ERR_NOT_FOUND)
		return fd;
	if (fs_mkdirs(AT_FDCWD, arena_strndup(&a, path, (size_t)(path_base(path) - path)), 0755, e) < 0)
		return -1;
	return fd_create(AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, LOG_MODE, e);
}

static int files_open(struct container *k, struct start_files *f, struct err *e)
{
	auto_arena a = { 0 };

	f->config_fd = fd_open(AT_FDCWD, container_path(&a, k, "config.json"), O_RDONLY, e);
	if (f->config_fd < 0 || container_open_root(k, e) < 0)
		return -1;
	if ((handler_is_foreign(k->pod) ? handler_mounts_attach(k, e) : open_sources(k, f, e)) < 0)
		return -1;
	if (k->log_path) {
		f->log_fd = log_open(k, e);
		if (f->log_fd < 0)
			return -1;
	}
	return 0;
}

static int ask_monitor(struct container *k, struct monitor_process *out, struct err *e)
{
	auto_files f = { .config_fd = -1, .log_fd = -1 };
	struct unit_start unit = UNIT_START_NONE;
	struct monitor_start_request r;
	auto_call c;
	int rc;

	/* Not the caller's call: once knarr-pod was asked, the start goes on. */
	call_begin(&c, clock_mono_ns() + k->all->settings.create_limit_ns);
	rc = files_open(k, &f, e);
	r = (struct monitor_start_request){
		.container_id = k->id, .bundle_path = container_path(&c.arena, k, ""),
		.config_fd = f.config_fd, .root_fd = handler_is_foreign(k->pod) ? -1 : k->root_fd,
		.mount_fds = f.mounts, .nmount_fds = f.nmounts,
		.log_fd = f.log_fd, .stdin_open = k->config->stdin_open,
		.stdin_once = k->config->stdin_once, .tty = k->config->tty,
	};
	if (rc == 0 && !handler_is_foreign(k->pod))
		rc = unit_begin(k, &c, &unit, e);
	if (rc == 0)
		rc = steps_point("start", "ask", e);
	if (rc == 0)
		rc = monitor_container_start(&c, k->pod->run_dirfd, &r, out, e);
	if (rc < 0 && (e->kind == ERR_TIMEOUT || e->kind == ERR_UNAVAILABLE)) {
		struct err ignored;

		(void)cgroup_kill(&k->all->cgroups, k->cgroup_path, &ignored);
	}
	unit_end(k, &unit, rc == 0);
	fd_close(&k->root_fd);
	return rc;
}

static int begin_start(struct container *k, struct err *e)
{
	LOCKED(&k->all->lock);

	if (k->pod->state != POD_READY)
		return err_set(e, ERR_STATE, "container %s cannot start: its pod %s is %s", k->id, k->pod->id,
			       pod_state_name[k->pod->state]);
	if (k->state != CONTAINER_CREATED || k->busy)
		return err_set(e, ERR_STATE, "container %s is %s and cannot be started", k->id,
			       k->busy ? "being changed" : container_state_name[k->state]);
	return container_enter_locked(k, CONTAINER_STARTING, e);
}

static void has_started(struct container *k, const struct monitor_process *process)
{
	LOCKED(&k->all->lock);
	struct err e;

	/* It may have ended already, and the watcher have heard of it first. */
	k->started_wall_ns = process->started_wall_ns;
	k->pid = process->pid;
	k->start_ticks = process->start_ticks;
	if (k->state == CONTAINER_STARTING) {
		(void)container_enter_locked(k, CONTAINER_RUNNING, &e);
		event_push_locked(k->all, POD_EVENT_STARTED, k->pod->owner, k->pod->id, k->id);
	}
	k->recording.wanted++;
}

/* A limit so low that not even the start fits comes up as ENOMEM in whatever the start was doing. */
enum { LOW_MEMORY_BYTES = 4 << 20 };

static void explain_memory(const struct container *k, struct err *e)
{
	const struct config_resources *r = k->config->resources;
	struct err as_it_was = *e;

	if (e->kind == ERR_EXHAUSTED && r && r->memory_bytes > 0 && r->memory_bytes < LOW_MEMORY_BYTES)
		(void)err_set(e, ERR_EXHAUSTED, "%s (its memory limit of %lld bytes is too low to start it)",
			      as_it_was.msg, (long long)r->memory_bytes);
}

static int start(struct container *k, struct err *e)
{
	struct monitor_process process = { 0 };
	struct err ignored;

	if (plugins_container(k, CONTAINER_MOMENT_START, e) < 0 || ask_monitor(k, &process, e) < 0) {
		const struct monitor_exit failed = { .code = 128, .finished_wall_ns = clock_wall_ns(),
						     .reason = "StartError", .message = e->msg };

		explain_memory(k, e);
		(void)container_exited(k, &failed);
		if (container_save(k, &ignored) < 0)
			log_error("%s", ignored.msg);
		return err_in(e, "start container %s", k->id);
	}
	(void)steps_point("start", "answered", &ignored);
	has_started(k, &process);
	if (container_save(k, &ignored) < 0)
		log_error("%s", ignored.msg);
	(void)steps_point("start", "saved", &ignored);
	plugins_container_told(k, CONTAINER_MOMENT_STARTED);
	return 0;
}

int container_start(struct pods *ps, UNUSED struct call *c, enum pod_owner owner, const char *id, struct err *e)
{
	auto_container *k = container_get(ps, owner, id, e);
	int rc;

	if (!k || begin_start(k, e) < 0)
		return -1;
	plugins_begin(k);
	rc = start(k, e);
	plugins_end(k);
	return rc;
}
