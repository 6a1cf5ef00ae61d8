/* The real knarr-pod, driven through its client as knarrd does it: root, cgroups and busybox-static
 * needed. KNARR_POD names the program. Everything lives in a folder, cgroups and processes of its own. */
#ifndef KNARR_TESTS_MONITOR_WORLD_H
#define KNARR_TESTS_MONITOR_WORLD_H

#include "monitor/client.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/fs.h"
#include "kernel/cgroup.h"
#include "kernel/mount.h"
#include "monitor/ask.h"

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PID_OWN, PID_POD, PID_HOST };

struct world {
	struct cgroup_layout cgroups;
	struct monitor_program program;
	struct monitor_started pod;
	char dir[64], parent[64];
	int top, run, state, events;
	struct call call;
};

static inline void check(int rc, const struct err *e, const char *what)
{
	if (rc < 0)
		fail_msg("%s: %s", what, e->msg);
}
#define OK(expr) check((expr), &e, #expr)

static inline void busybox_install(int root)
{
	static const char *const applets[] = { "sh", "cat", "echo", "sleep", "true", "stty", "nc", "wc", "tee", "false", "kill", "head",
					       "dd", "ps", "hostname", "tail", "tr", "yes", "ls", "seq" };
	struct err e;
	char bytes[65536];
	auto_fd int from = fd_open(AT_FDCWD, "/bin/busybox", O_RDONLY, &e), to = -1;
	ssize_t n;

	OK(fs_mkdirs(root, "bin", 0755, &e));
	OK(fs_mkdirs(root, "proc", 0755, &e));
	OK(fs_mkdirs(root, "dev", 0755, &e));
	OK(fs_mkdirs(root, "sys", 0755, &e));
	OK(fs_mkdirs(root, "tmp", 0777, &e));
	OK(to = fd_create(root, "bin/busybox", O_WRONLY | O_CREAT, 0755, &e));
	while ((n = read(from, bytes, sizeof(bytes))) > 0)
		OK(fd_write_all(to, bytes, (size_t)n, &e));
	for (size_t i = 0; i < ARRAY_SIZE(applets); i++) {
		char name[64];

		(void)snprintf(name, sizeof(name), "bin/%s", applets[i]);
		assert_int_equal(symlinkat("busybox", root, name), 0);
	}
}

static inline struct world *world_new(void)
{
	static int worlds;
	struct world *w = calloc(1, sizeof(*w));
	auto_fd int root = -1;
	struct err e;

	assert_non_null(w);
	call_begin(&w->call, clock_mono_ns() + 60 * NS_PER_S);
	strcpy(w->dir, "/tmp/knarr-test-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	assert_int_equal(chmod(w->dir, 0755), 0);
	(void)snprintf(w->parent, sizeof(w->parent), "knarr-test-%d-%d", getpid(), ++worlds);
	OK(w->top = fd_open(AT_FDCWD, w->dir, O_RDONLY | O_DIRECTORY, &e));
	OK(fs_mkdirs(w->top, "run", 0700, &e));
	OK(fs_mkdirs(w->top, "state", 0700, &e));
	OK(fs_mkdirs(w->top, "root", 0755, &e));
	OK(w->run = fd_open(w->top, "run", O_RDONLY | O_DIRECTORY, &e));
	OK(w->state = fd_open(w->top, "state", O_RDONLY | O_DIRECTORY, &e));
	OK(root = fd_open(w->top, "root", O_RDONLY | O_DIRECTORY, &e));
	busybox_install(root);
	OK(cgroup_layout_open(&w->cgroups, &e));
	OK(monitor_program_open(getenv("KNARR_POD"), &w->cgroups, &w->program, &e));
	w->events = -1;
	return w;
}

static const struct idmap uid_map = { 0, 300000, 65536 }, gid_map = { 0, 400000, 65536 };

static inline void pod_start(struct world *w, unsigned namespaces)
{
	char cgroup[80];
	struct monitor_pod_spec spec = {
		.pod_id = "testpod",
		.run_dirfd = w->run,
		.state_dirfd = w->state,
		.namespaces = namespaces,
		.hostname = "test-host",
		.idmaps = { &uid_map, &gid_map, 1, 1 },
		.cgroup = cgroup,
	};
	struct err e;

	(void)snprintf(cgroup, sizeof(cgroup), "%s/monitors", w->parent);
	OK(monitor_start(&w->call, &w->program, &spec, &w->pod, &e));
	OK(monitor_subscribe(&w->call, w->run, &w->events, &e));
}

static inline void reap(struct world *w)
{
	struct proc_exit x;
	struct err e;

	OK(proc_wait(&w->call, &(struct proc){ w->pod.monitor.pid, w->pod.pidfd }, &x, &e));
}

static inline void pod_close(struct world *w)
{
	fd_close(&w->pod.pidfd);
	fd_close(&w->pod.netns_fd);
	fd_close(&w->pod.ipcns_fd);
	fd_close(&w->pod.utsns_fd);
	fd_close(&w->pod.pidns_fd);
	fd_close(&w->pod.userns_fd);
	fd_close(&w->events);
}

static inline void pod_end(struct world *w)
{
	struct err e;

	OK(monitor_shutdown(&w->call, w->run, &e));
	reap(w);
	pod_close(w);
}

/* Nothing is left: no process in the cgroups, no folder, no file. */
static inline void world_free(struct world *w)
{
	char cgroup[128];
	struct err e;

	(void)snprintf(cgroup, sizeof(cgroup), "%s/c", w->parent);
	assert_false(cgroup_is_populated(&w->cgroups, cgroup));
	for (int i = 0; i < 200; i++) {
		char one[160];

		(void)snprintf(one, sizeof(one), "%s/c%d", cgroup, i);
		if (cgroup_exists(&w->cgroups, one))
			fail_msg("cgroup %s is left", one);
	}
	OK(cgroup_remove(&w->cgroups, w->parent, 2000, &e));
	monitor_program_close(&w->program);
	cgroup_layout_close(&w->cgroups);
	fd_close(&w->run);
	fd_close(&w->state);
	OK(fs_remove_tree(w->top, "run", &e));
	OK(fs_remove_tree(w->top, "state", &e));
	OK(fs_remove_tree(w->top, "root", &e));
	OK(fs_remove_tree(w->top, "log", &e));
	fd_close(&w->top);
	assert_int_equal(rmdir(w->dir), 0);
	call_end(&w->call);
	free(w);
}

struct wish {
	const char *id, *script;
	int pid;
	long long memory;
	bool tty, in, in_once, no_log, user, direct; /* direct: the script is the program's path */
};

static inline int config_memfd(struct world *w, const struct wish *x)
{
	char pidns[128] = "", user[400] = "", memory[200] = "", command[2000], text[6000];
	struct err e;
	int fd;

	if (x->pid == PID_OWN)
		(void)snprintf(pidns, sizeof(pidns), "{\"type\":\"pid\"},");
	if (x->pid == PID_POD)
		(void)snprintf(pidns, sizeof(pidns), "{\"type\":\"pid\",\"path\":\"/proc/%d/ns/pid\"},",
			       w->pod.init_pid);
	if (x->memory)
		(void)snprintf(memory, sizeof(memory), ",\"resources\":{\"memory\":{\"limit\":%lld}}", x->memory);
	if (x->user)
		(void)snprintf(user, sizeof(user), ",{\"type\":\"user\",\"path\":\"/proc/%d/fd/%d\"}],"
			       "\"uidMappings\":[{\"containerID\":0,\"hostID\":300000,\"size\":65536}],"
			       "\"gidMappings\":[{\"containerID\":0,\"hostID\":400000,\"size\":65536}]",
			       w->pod.monitor.pid, MONITOR_USERNS_FD);
	if (x->direct)
		(void)snprintf(command, sizeof(command), "[\"%s\"]", x->script);
	else
		(void)snprintf(command, sizeof(command), "[\"/bin/sh\",\"-c\",\"%s\"]", x->script);
	(void)snprintf(text, sizeof(text),
		       "{\"ociVersion\":\"1.0.2\",\"process\":{\"terminal\":%s,\"user\":{\"uid\":0,\"gid\":0},"
		       "\"args\":%s,\"env\":[\"PATH=/bin\"],\"cwd\":\"/\",\"noNewPrivileges\":true,"
		       "\"capabilities\":{\"bounding\":[\"CAP_KILL\"],\"effective\":[\"CAP_KILL\"],"
		       "\"permitted\":[\"CAP_KILL\"]}},"
		       "\"root\":{\"path\":\"rootfs\"},\"mounts\":[{\"destination\":\"/proc\",\"type\":\"proc\","
		       "\"source\":\"proc\"},{\"destination\":\"/dev\",\"type\":\"tmpfs\",\"source\":\"tmpfs\","
		       "\"options\":[\"nosuid\",\"mode=755\"]},{\"destination\":\"/dev/pts\",\"type\":\"devpts\","
		       "\"source\":\"devpts\",\"options\":[\"nosuid\",\"noexec\",\"newinstance\","
		       "\"ptmxmode=0666\",\"mode=0620\"]}%s],"
		       "\"linux\":{\"cgroupsPath\":\"/%s/c/%s\",\"namespaces\":[%s"
		       "{\"type\":\"ipc\",\"path\":\"/proc/%d/ns/ipc\"},{\"type\":\"uts\",\"path\":\"/proc/%d/ns/uts\"},"
		       "{\"type\":\"network\",\"path\":\"/proc/%d/ns/net\"},{\"type\":\"mount\"}%s%s}}",
		       x->tty ? "true" : "false", command,
		       x->user ? ",{\"destination\":\"/sys\",\"type\":\"sysfs\",\"source\":\"sysfs\"}" : "", w->parent, x->id, pidns, w->pod.monitor.pid,
		       w->pod.monitor.pid, w->pod.monitor.pid, *user ? user : "]", memory);
	OK(fd = fd_memfd("config.json", text, strlen(text), &e));
	return fd;
}

static inline int log_open(struct world *w, const char *id)
{
	char path[200];
	struct err e;
	int fd;

	OK(fs_mkdirs(w->top, "log", 0755, &e));
	(void)snprintf(path, sizeof(path), "log/%s", id);
	OK(fd = fd_create(w->top, path, O_WRONLY | O_APPEND | O_CREAT, 0640, &e));
	return fd;
}

static inline int try_start(struct world *w, const struct wish *x, struct monitor_process *out, struct err *err)
{
	auto_fd int config = config_memfd(w, x), log = -1, root = -1;
	struct monitor_start_request r = { .container_id = x->id, .bundle_path = w->dir, .tty = x->tty,
					   .stdin_open = x->in, .stdin_once = x->in_once };
	struct err e;

	if (!x->no_log)
		log = log_open(w, x->id);
	root = (int)syscall(SYS_open_tree, w->top, "root", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	assert_true(root >= 0);
	if (x->user)
		OK(mount_idmap(root, w->pod.userns_fd, false, &e));
	r.config_fd = config;
	r.root_fd = root;
	r.log_fd = log;
	return monitor_container_start(&w->call, w->run, &r, out, err);
}

static inline struct monitor_process start(struct world *w, struct wish x)
{
	struct monitor_process process;
	struct err e;

	OK(try_start(w, &x, &process, &e));
	assert_true(process.pid > 0);
	assert_true(process.started_wall_ns > 0);
	return process;
}

static inline struct monitor_exit wait_exit(struct world *w, const char *id)
{
	struct monitor_event ev;
	struct monitor_exit read_back;
	struct err e;
	int rc;

	OK(io_wait(&w->call, w->events, POLLIN, &e));
	OK(rc = monitor_event_read(&w->call.arena, w->events, &ev, &e));
	assert_int_equal(rc, 1);
	assert_string_equal(ev.container_id, id);
	OK(monitor_exit_read(&w->call.arena, w->state, id, &read_back, &e)); /* durable before it is told */
	assert_int_equal(read_back.code, ev.exit.code);
	assert_int_equal(read_back.finished_wall_ns, ev.exit.finished_wall_ns);
	assert_true(ev.exit.finished_wall_ns >= ev.exit.started_wall_ns);
	return ev.exit;
}

static const char *log_text(struct world *w, const char *id)
{
	char path[200];
	struct err e;
	struct str text;

	(void)snprintf(path, sizeof(path), "log/%s", id);
	OK(fs_read_file(&w->call.arena, w->top, path, 1 << 24, &text, &e));
	return text.p;
}

static inline void assert_log_has(struct world *w, const char *id, const char *what)
{
	const char *text = log_text(w, id);

	if (!strstr(text, what))
		fail_msg("the log of %s has no \"%s\" but:\n%s", id, what, text);
}

static inline struct monitor_exec_result exec_in(struct world *w, const char *id, const char *script, int64_t timeout_ns)
{
	char *argv[] = { "/bin/sh", "-c", (char *)script, NULL };
	struct monitor_exec_request r = { .container_id = id, .argv = argv, .timeout_ns = timeout_ns,
					  .output_max_bytes = 16 << 20 };
	struct monitor_exec_result out;
	struct err e;

	OK(monitor_exec_sync(&w->call, w->run, &r, &out, &e));
	return out;
}

enum { NS_ALL = MONITOR_NS_NET | MONITOR_NS_IPC | MONITOR_NS_UTS };

#endif
