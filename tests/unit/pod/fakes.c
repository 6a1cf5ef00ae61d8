#include "fakes.h"

#include "image/image.h"
#include "monitor/client.h"
#include "net/net.h"
#include "runtime/resources.h"
#include "runtime/systemd.h"

#include "base/clock.h"
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX = 64, ID = 65 };

struct fake_container {
	char id[ID], pod[ID];
	bool used, ended;
	struct monitor_exit exit;
};
struct fake_monitor {
	char id[ID];
	bool used;
	pid_t pid;
	int told;                /* our end of the event connection */
};

/* Shared with children that play a knarrd which dies: what it had made outlives it. */
struct shared {
	struct fake_facts facts;
	pthread_mutex_t lock;
	struct fake_container containers[MAX];
	struct fake_monitor monitors[MAX];
	char nets[MAX][ID], snapshots[MAX][ID], cgroups[MAX][512];
};
static struct shared *shared;

static void lock_make(void)
{
	pthread_mutexattr_t attr;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&shared->lock, &attr);
	pthread_mutexattr_destroy(&attr);
}

__attribute__((constructor)) static void shared_make(void)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	BUG_ON(shared == MAP_FAILED);
	lock_make();
}

struct fake_facts *fakes_shared(void)
{
	return &shared->facts;
}

/* The event connections of a knarrd that has died ended with it. */
void fakes_after_crash(void)
{
	lock_make();
	for (int i = 0; i < MAX; i++)
		shared->monitors[i].told = -1;
}

static void pod_of_dir(int run_dirfd, char out[ID])
{
	struct fd_path p;
	char path[512] = "";
	ssize_t n = readlink(fd_path(&p, run_dirfd), path, sizeof(path) - 1);
	char *deleted;

	path[n > 0 ? n : 0] = '\0';
	deleted = strstr(path, " (deleted)");
	if (deleted)
		*deleted = '\0';
	(void)snprintf(out, ID, "%.64s", path_base(path));
}

static struct fake_monitor *monitor_of(int run_dirfd)
{
	char id[ID];

	pod_of_dir(run_dirfd, id);
	for (int i = 0; i < MAX; i++)
		if (shared->monitors[i].used && streq(shared->monitors[i].id, id))
			return &shared->monitors[i];
	return NULL;
}

static struct fake_container *container_of_id(const char *id)
{
	for (int i = 0; i < MAX; i++)
		if (shared->containers[i].used && streq(shared->containers[i].id, id))
			return &shared->containers[i];
	return NULL;
}

static void container_ends_locked(struct fake_container *k, int code, int signal, bool oom)
{
	if (k->ended)
		return;
	k->ended = true;
	k->exit = (struct monitor_exit){ .code = code, .signal = signal, .oom_killed = oom,
					 .started_wall_ns = 1, .finished_wall_ns = clock_wall_ns(),
					 .reason = "", .message = "" };
	for (int i = 0; i < MAX; i++)
		if (shared->monitors[i].used && streq(shared->monitors[i].id, k->pod) && shared->monitors[i].told >= 0)
			(void)!send(shared->monitors[i].told, k->id, sizeof(k->id), MSG_NOSIGNAL);
}

void fake_container_exits(const char *id, int code, bool oom)
{
	pthread_mutex_lock(&shared->lock);
	container_ends_locked(container_of_id(id), code, 0, oom);
	pthread_mutex_unlock(&shared->lock);
}

static void monitor_ends_locked(struct fake_monitor *m)
{
	if (!m->used)
		return;
	(void)kill(m->pid, SIGKILL);
	fd_close(&m->told);
	m->used = false;
	fakes.monitors--;
}

void fake_monitors_die(void)
{
	pthread_mutex_lock(&shared->lock);
	for (int i = 0; i < MAX; i++)
		monitor_ends_locked(&shared->monitors[i]);
	pthread_mutex_unlock(&shared->lock);
}

void fakes_reset(void)
{
	fake_monitors_die();
	pthread_mutex_lock(&shared->lock);
	memset(shared->cgroups, 0, sizeof(shared->cgroups));
	memset(shared->containers, 0, sizeof(shared->containers));
	memset(shared->nets, 0, sizeof(shared->nets));
	memset(shared->snapshots, 0, sizeof(shared->snapshots));
	pthread_mutex_unlock(&shared->lock);
	fakes = (struct fake_facts){ 0 };
}

/* --- monitor/ ------------------------------------------------------------------------------------------------ */

int monitor_program_open(UNUSED const char *path, const struct cgroup_layout *cgroups, struct monitor_program *out,
			 UNUSED struct err *e)
{
	*out = (struct monitor_program){ .exec_fd = -1, .lean_mount_ns_fd = -1, .cgroups = cgroups };
	return 0;
}

void monitor_program_close(UNUSED struct monitor_program *p)
{
}

/* A process that only waits, so that there is a pid and a pidfd. */
static pid_t sleeper(void)
{
	int ends[2] = { -1, -1 };
	pid_t pid;
	char end;

	(void)!pipe(ends);
	pid = fork();
	if (pid == 0) {
		sigset_t none;

		(void)close_range(0, ~0u, 0); /* the catalog's lock is not ours */
		(void)sigemptyset(&none);
		(void)sigprocmask(SIG_SETMASK, &none, NULL);
		(void)alarm(100);
		for (;;)
			(void)pause();
	}
	(void)close(ends[1]);
	(void)!read(ends[0], &end, 1); /* until it has closed its copies */
	(void)close(ends[0]);
	return pid;
}

int monitor_begin(UNUSED struct call *c, UNUSED const struct monitor_program *p, const struct monitor_pod_spec *s,
		  struct monitor_birth *out, struct err *e)
{
	struct fake_monitor *m = NULL;

	pthread_mutex_lock(&shared->lock);
	for (int i = 0; i < MAX && !m; i++)
		m = shared->monitors[i].used ? NULL : &shared->monitors[i];
	*m = (struct fake_monitor){ .used = true, .pid = sleeper(), .told = -1 };
	(void)snprintf(m->id, sizeof(m->id), "%s", s->pod_id);
	fakes.monitors++;
	pthread_mutex_unlock(&shared->lock);
	out->proc = (struct proc){ .pid = m->pid, .pidfd = proc_pidfd_open(m->pid, e) };
	out->fd = s->namespaces & MONITOR_NS_NET ? open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC) : -1;
	return out->proc.pidfd < 0 ? -1 : 0;
}

int monitor_born(UNUSED struct call *c, struct monitor_birth *b, struct monitor_started *out, struct err *e)
{
	*out = (struct monitor_started){ .monitor = { .pid = b->proc.pid, .protocol = 1 }, .netns_fd = b->fd,
					 .pidfd = b->proc.pidfd, .ipcns_fd = -1, .utsns_fd = -1, .pidns_fd = -1, .userns_fd = -1 };
	*b = (struct monitor_birth)MONITOR_BIRTH_NONE;
	return proc_start_time(out->monitor.pid, &out->monitor.start_ticks, e);
}

void monitor_birth_end(struct monitor_birth *b)
{
	fd_close(&b->fd);
	if (b->proc.pidfd < 0)
		return;
	fd_close(&b->proc.pidfd);
	pthread_mutex_lock(&shared->lock);
	for (int i = 0; i < MAX; i++)
		if (shared->monitors[i].used && shared->monitors[i].pid == b->proc.pid)
			monitor_ends_locked(&shared->monitors[i]);
	pthread_mutex_unlock(&shared->lock);
}

static int gone(struct err *e)
{
	return err_set(e, ERR_UNAVAILABLE, "no knarr-pod answers");
}

int monitor_find(UNUSED struct call *c, int run_dirfd, struct monitor *out, int *pidfd, struct err *e)
{
	struct fake_monitor *m;
	int rc = -1;

	pthread_mutex_lock(&shared->lock);
	m = monitor_of(run_dirfd);
	if (m && !fakes.monitor_mute) {
		*out = (struct monitor){ .pid = m->pid, .protocol = 1 };
		rc = proc_start_time(m->pid, &out->start_ticks, e);
		*pidfd = proc_pidfd_open(m->pid, e);
	} else {
		(void)gone(e);
	}
	pthread_mutex_unlock(&shared->lock);
	return rc;
}

int monitor_sysctls(UNUSED struct call *c, UNUSED int run_dirfd, UNUSED const struct monitor_sysctl *sysctls,
		    UNUSED size_t n, UNUSED struct err *e)
{
	return 0;
}

int monitor_container_start(UNUSED struct call *c, int run_dirfd, const struct monitor_start_request *r,
			    struct monitor_process *out, struct err *e)
{
	struct fake_container *k = NULL;

	if (fakes.start_fails)
		return err_set(e, ERR_NOT_FOUND, "exec: \"nothing\": not found");
	pthread_mutex_lock(&shared->lock);
	for (int i = 0; i < MAX && !k; i++)
		k = shared->containers[i].used ? NULL : &shared->containers[i];
	*k = (struct fake_container){ .used = true };
	(void)snprintf(k->id, sizeof(k->id), "%s", r->container_id);
	pod_of_dir(run_dirfd, k->pod);
	fakes.starts++;
	pthread_mutex_unlock(&shared->lock);
	*out = (struct monitor_process){ .pid = 4000000 + fakes.starts, .start_ticks = 1,
					 .started_wall_ns = clock_wall_ns() };
	return 0;
}

int monitor_container_kill(struct call *c, UNUSED int run_dirfd, const char *container_id, int signal,
			   UNUSED enum monitor_kill what, struct err *e)
{
	struct fake_container *k;
	int rc = 0;

	if (fakes.monitor_mute)
		return call_sleep(c, 100 * NS_PER_S, e) < 0 ? -1 : gone(e);
	pthread_mutex_lock(&shared->lock);
	k = container_of_id(container_id);
	if (!k) {
		rc = err_set(e, ERR_NOT_FOUND, "no such container");
	} else if (signal == SIGKILL) {
		fakes.kills++;
		container_ends_locked(k, 137, SIGKILL, false);
	} else {
		fakes.signals++;
		if (!fakes.ignores_term)
			container_ends_locked(k, 128 + signal, signal, false);
	}
	pthread_mutex_unlock(&shared->lock);
	return rc;
}

int monitor_container_reopen_log(UNUSED struct call *c, UNUSED int run_dirfd, UNUSED const char *container_id,
				 UNUSED int log_fd, UNUSED struct err *e)
{
	return 0;
}

int monitor_list(struct call *c, int run_dirfd, struct monitor_container **out, size_t *n, UNUSED struct err *e)
{
	char pod[ID];

	pod_of_dir(run_dirfd, pod);
	*out = arena_newn0(&c->arena, struct monitor_container, MAX);
	*n = 0;
	pthread_mutex_lock(&shared->lock);
	for (int i = 0; i < MAX; i++) {
		struct fake_container *k = &shared->containers[i];

		if (k->used && streq(k->pod, pod))
			(*out)[(*n)++] = (struct monitor_container){
				.id = arena_strdup(&c->arena, k->id),
				.state = k->ended ? MONITOR_EXITED : MONITOR_RUNNING,
				.process = { .pid = 4000000, .started_wall_ns = 1 }, .exit = k->exit };
	}
	pthread_mutex_unlock(&shared->lock);
	return 0;
}

int monitor_container_forget(UNUSED struct call *c, UNUSED int run_dirfd, const char *container_id,
			     UNUSED struct err *e)
{
	pthread_mutex_lock(&shared->lock);
	if (container_of_id(container_id))
		container_of_id(container_id)->used = false;
	pthread_mutex_unlock(&shared->lock);
	return 0;
}

int monitor_exit_read(UNUSED struct arena *a, UNUSED int state_dirfd, const char *container_id,
		      struct monitor_exit *out, struct err *e)
{
	struct fake_container *k;
	int rc = 0;

	pthread_mutex_lock(&shared->lock);
	k = container_of_id(container_id);
	if (k && k->ended)
		*out = k->exit;
	else
		rc = err_set(e, ERR_NOT_FOUND, "no exit file");
	pthread_mutex_unlock(&shared->lock);
	return rc;
}

int monitor_exec_sync(UNUSED struct call *c, UNUSED int run_dirfd, UNUSED const struct monitor_exec_request *r,
		      struct monitor_exec_result *out, UNUSED struct err *e)
{
	*out = (struct monitor_exec_result){ .exit_code = 3, .out = STR("out"), .err = STR("err"),
					     .timed_out = streq(r->argv[0], "sleep") };
	return 0;
}

int monitor_subscribe(UNUSED struct call *c, int run_dirfd, int *event_fd, struct err *e)
{
	struct fake_monitor *m;
	int two[2];

	pthread_mutex_lock(&shared->lock);
	m = monitor_of(run_dirfd);
	if (m && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, two) == 0) {
		fd_close(&m->told);
		m->told = two[0];
		*event_fd = two[1];
	}
	pthread_mutex_unlock(&shared->lock);
	return m ? 0 : gone(e);
}

int monitor_event_read(struct arena *a, int event_fd, struct monitor_event *out, struct err *e)
{
	struct fake_container *k;
	char id[ID];
	ssize_t n = recv(event_fd, id, sizeof(id), MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n != sizeof(id))
		return gone(e);
	pthread_mutex_lock(&shared->lock);
	k = container_of_id(id);
	*out = (struct monitor_event){ arena_strdup(a, id), k ? k->exit : (struct monitor_exit){ 0 } };
	pthread_mutex_unlock(&shared->lock);
	return 1;
}

/* A played knarr-pod always answers. */
int monitor_seek(UNUSED const char *pod_id)
{
	return -1;
}

int monitor_shutdown(UNUSED struct call *c, int run_dirfd, UNUSED struct err *e)
{
	struct fake_monitor *m;

	pthread_mutex_lock(&shared->lock);
	m = monitor_of(run_dirfd);
	if (m) {
		for (int i = 0; i < MAX; i++)
			if (shared->containers[i].used && streq(shared->containers[i].pod, m->id))
				container_ends_locked(&shared->containers[i], 137, SIGKILL, false);
		monitor_ends_locked(m);
	}
	pthread_mutex_unlock(&shared->lock);
	return 0;
}

/* --- image/ -------------------------------------------------------------------------------------------------- */

int image_find(UNUSED struct images *im, struct arena *a, const char *name, struct image *out, struct err *e)
{
	if (starts_with(name, "absent"))
		return err_set(e, ERR_NOT_FOUND, "image %s is not here", name);
	*out = (struct image){ .id = arena_printf(a, "sha256:%064d", 7) };
	return 0;
}

int image_config_of(UNUSED struct images *im, struct arena *a, UNUSED const char *id, struct image_config *out,
		    UNUSED struct err *e)
{
	char *cmd[] = { "/bin/sh", NULL };

	*out = (struct image_config){ .cmd = strv_dup(a, cmd) };
	return 0;
}

int image_usage_of(UNUSED struct images *im, UNUSED struct arena *a, struct image_usage *out, UNUSED struct err *e)
{
	*out = (struct image_usage){ .mount_point = "/" };
	return 0;
}

static const char *root_of_images(struct images *im)
{
	return (const char *)im; /* the test hands us its root folder's path */
}

static int slot_of(char (*table)[ID], const char *id)
{
	for (int i = 0; i < MAX; i++)
		if (streq(table[i], id))
			return i;
	return -1;
}

int snapshot_create(struct images *im, const char *container_id, UNUSED const char *image_id, struct err *e)
{
	auto_arena a = { 0 };

	pthread_mutex_lock(&shared->lock);
	(void)snprintf(shared->snapshots[slot_of(shared->snapshots, "")], ID, "%s", container_id);
	fakes.snapshots++;
	pthread_mutex_unlock(&shared->lock);
	return fs_mkdirs(AT_FDCWD, arena_printf(&a, "%s/containers/%s/upper", root_of_images(im), container_id), 0700,
			 e);
}

int snapshot_remove(struct images *im, const char *container_id, struct err *e)
{
	auto_arena a = { 0 };
	int i;

	pthread_mutex_lock(&shared->lock);
	i = slot_of(shared->snapshots, container_id);
	if (i >= 0) {
		shared->snapshots[i][0] = '\0';
		fakes.snapshots--;
	}
	pthread_mutex_unlock(&shared->lock);
	return fs_remove_tree(AT_FDCWD, arena_printf(&a, "%s/containers/%s", root_of_images(im), container_id), e);
}

int snapshot_mount(struct images *im, const char *container_id, UNUSED int userns_fd, int *mount_fd, struct err *e)
{
	auto_arena a = { 0 };

	*mount_fd = fd_open(AT_FDCWD,
			    arena_printf(&a, "%s/containers/%s/upper", root_of_images(im), container_id),
			    O_PATH | O_DIRECTORY, e);
	return *mount_fd < 0 ? -1 : 0;
}

int snapshot_hold(UNUSED struct images *im, UNUSED const char *container_id, UNUSED const char *image_id, UNUSED struct err *e)
{
	return 0;
}

int image_mount(UNUSED struct images *im, UNUSED const char *image_id, UNUSED const char *sub_path, UNUSED int userns_fd,
		int *mount_fd, struct err *e)
{
	*mount_fd = fd_open(AT_FDCWD, "/", O_PATH | O_DIRECTORY, e);
	return *mount_fd < 0 ? -1 : 0;
}

int snapshot_usage(UNUSED struct images *im, UNUSED const char *container_id, uint64_t *bytes, uint64_t *inodes,
		   UNUSED struct err *e)
{
	*bytes = 4096;
	*inodes = 1;
	return 0;
}

/* --- net/ ---------------------------------------------------------------------------------------------------- */

int net_add(UNUSED struct net *n, struct call *c, const struct net_request *r, struct net_result *out, struct err *e)
{
	static char *ips[] = { "10.0.0.7", NULL };

	pthread_mutex_lock(&shared->lock);
	(void)snprintf(shared->nets[slot_of(shared->nets, "")], ID, "%s", r->pod_id);
	fakes.networks++;
	pthread_mutex_unlock(&shared->lock);
	if (fakes.net_add_ms && call_sleep(c, fakes.net_add_ms * NS_PER_MS, e) < 0)
		return -1;
	if (fakes.net_add_fails)
		return err_set(e, ERR_SYSTEM, "plugin bridge: no more addresses");
	*out = (struct net_result){ .ips = ips, .interface = "eth0" };
	return 0;
}

int net_del(UNUSED struct net *n, UNUSED struct call *c, const struct net_request *r, struct err *e)
{
	int i;

	if (fakes.net_del_fails)
		return err_set(e, ERR_SYSTEM, "plugin bridge: cannot release");
	pthread_mutex_lock(&shared->lock);
	fakes.dels++;
	i = slot_of(shared->nets, r->pod_id);
	if (i >= 0) {
		shared->nets[i][0] = '\0';
		fakes.networks--;
	}
	pthread_mutex_unlock(&shared->lock);
	return 0;
}

int net_collect(UNUSED struct net *n, UNUSED struct call *c, UNUSED struct err *e)
{
	return 0;
}

int net_pods(UNUSED struct net *n, struct arena *a, char ***out, UNUSED struct err *e)
{
	char *all[MAX + 1];
	size_t count = 0;

	pthread_mutex_lock(&shared->lock);
	for (int i = 0; i < MAX; i++)
		if (shared->nets[i][0])
			all[count++] = shared->nets[i];
	all[count] = NULL;
	*out = strv_dup(a, all);
	pthread_mutex_unlock(&shared->lock);
	return 0;
}

/* --- kernel/cgroup, runtime/resources --------------------------------------------------------------------------- */

int cgroup_layout_open(struct cgroup_layout *out, UNUSED struct err *e)
{
	*out = (struct cgroup_layout){ .mode = CGROUP_V2, .mount = "/sys/fs/cgroup", .nh = 1 };
	return 0;
}

void cgroup_layout_close(UNUSED struct cgroup_layout *l)
{
}

int cgroup_path_clean(struct arena *a, const char *path, const char **out, struct err *e)
{
	if (strstr(path, ".."))
		return err_set(e, ERR_INVALID, "cgroup path %s", path);
	while (*path == '/')
		path++;
	*out = arena_strdup(a, path);
	return 0;
}

static int cgroup_slot(const char *path)
{
	for (int i = 0; i < MAX; i++)
		if (streq(shared->cgroups[i], path))
			return i;
	return -1;
}

int cgroup_create(UNUSED const struct cgroup_layout *l, const char *path, UNUSED struct err *e)
{
	pthread_mutex_lock(&shared->lock);
	(void)snprintf(shared->cgroups[cgroup_slot("")], sizeof(shared->cgroups[0]), "%s", path);
	fakes.cgroups++;
	pthread_mutex_unlock(&shared->lock);
	return 0;
}

int cgroup_remove(UNUSED const struct cgroup_layout *l, const char *path, UNUSED int wait_ms, UNUSED struct err *e)
{
	int i;

	pthread_mutex_lock(&shared->lock);
	i = cgroup_slot(path);
	if (i >= 0) {
		shared->cgroups[i][0] = '\0';
		fakes.cgroups--;
	}
	pthread_mutex_unlock(&shared->lock);
	return 0;
}

bool cgroup_exists(UNUSED const struct cgroup_layout *l, const char *path)
{
	return cgroup_slot(path) >= 0;
}

int cgroup_kill(UNUSED const struct cgroup_layout *l, UNUSED const char *path, UNUSED struct err *e)
{
	return 0;
}

int cgroup_stats_of(UNUSED const struct cgroup_layout *l, UNUSED const char *path, UNUSED unsigned want,
		    struct cgroup_stats *out, UNUSED struct err *e)
{
	*out = (struct cgroup_stats){ .has = CGROUP_HAS_CPU | CGROUP_HAS_MEMORY, .cpu.usage_ns = 5,
				      .memory = { .usage = 100, .limit = 1000, .working_set = 60,
						  .swap_limit = UINT64_MAX } };
	return 0;
}

int cgroup_hugepages(UNUSED const struct cgroup_layout *l, const char *path, UNUSED const char *size,
		     UNUSED struct cgroup_hugepages *out, struct err *e)
{
	return err_set(e, ERR_NOT_FOUND, "%s has none", path);
}

int cgroup_pids(struct arena *a, UNUSED const struct cgroup_layout *l, UNUSED const char *path, pid_t **out, size_t *n,
		UNUSED struct err *e)
{
	*out = arena_newn0(a, pid_t, 1);
	*n = 0;
	return 0;
}

int cgroup_join_pid(UNUSED const struct cgroup_layout *l, UNUSED const char *path, UNUSED pid_t pid,
		    UNUSED struct err *e)
{
	return 0;
}

/* --- runtime/systemd --------------------------------------------------------------------------------------------- */

int systemd_slice_path(struct arena *a, const char *slice, const char **out, UNUSED struct err *e)
{
	*out = arena_strdup(a, slice);
	return 0;
}

int systemd_resources(UNUSED struct arena *a, UNUSED const struct cgroup_layout *l, UNUSED const struct oci_resources *r,
		      UNUSED struct systemd_properties *out, UNUSED struct err *e)
{
	return 0;
}

int systemd_scope_start(UNUSED struct call *c, UNUSED const struct systemd_unit *u, UNUSED pid_t pid,
			UNUSED const char *description, UNUSED const struct systemd_properties *more, struct err *e)
{
	return err_set(e, ERR_UNAVAILABLE, "there is no systemd here");
}

void systemd_pids_make_room(UNUSED const struct oci_resources *r)
{
}

int systemd_pids_settle(UNUSED const struct cgroup_layout *l, UNUSED const char *cgroup,
			UNUSED const struct oci_resources *r, UNUSED struct err *e)
{
	return 0;
}

int systemd_update(UNUSED struct call *c, UNUSED const struct cgroup_layout *l, UNUSED const struct systemd_unit *u,
		   UNUSED const struct oci_resources *r, UNUSED struct err *e)
{
	return 0;
}

int resources_update(UNUSED const struct cgroup_layout *l, UNUSED const char *cgroup,
		     UNUSED const struct oci_resources *r, UNUSED struct err *e)
{
	return 0;
}

int resources_read(struct arena *a, UNUSED const struct cgroup_layout *l, UNUSED const char *cgroup,
		   struct oci_resources *out, UNUSED struct err *e)
{
	out->memory = arena_new0(a, struct oci_memory);
	out->memory->limit = arena_new0(a, int64_t);
	*out->memory->limit = 4096;
	return 0;
}
