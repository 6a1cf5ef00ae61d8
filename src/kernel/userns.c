#include "kernel/userns.h"

#include "base/arena.h"
#include "base/call.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/proc.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 3 * 11, HELPER_PATIENCE_S = 30 };

bool idmap_outside(const struct idmap *map, size_t n, uint32_t inside, uint32_t *out)
{
	for (size_t i = 0; i < n; i++)
		if (inside >= map[i].inside && inside - map[i].inside < map[i].size) {
			*out = map[i].outside + (inside - map[i].inside);
			return true;
		}
	return false;
}

/* --- the maps ------------------------------------------------------------------------------------- */

struct kind {
	const char *file, *helper, *name;
};
static const struct kind uids = { "uid_map", "newuidmap", "user" }, gids = { "gid_map", "newgidmap", "group" };

static char *map_text(struct arena *a, const struct idmap *map, size_t n)
{
	char *text = arena_alloc(a, n * LINE_MAX_BYTES + 1);
	size_t at = 0;

	text[0] = '\0';
	for (size_t i = 0; i < n; i++)
		at += (size_t)snprintf(text + at, LINE_MAX_BYTES + 1, "%u %u %u\n", map[i].inside, map[i].outside, map[i].size);
	return text;
}

static const char *helper_path(struct arena *a, const char *name)
{
	const char *path = getenv("PATH");
	struct str rest = str_of(path && *path ? path : "/usr/bin:/bin:/usr/local/bin");

	while (rest.p) {
		struct str dir = str_cut(&rest, ':');
		const char *at = arena_printf(a, "%.*s/%s", STR_ARG(dir), name);

		if (dir.len && access(at, X_OK) == 0)
			return at;
	}
	return NULL;
}

/* newuidmap PID INSIDE OUTSIDE SIZE… */
static int map_by_helper(struct arena *a, const struct kind *k, pid_t pid, const char *text, struct err *e)
{
	const char *path = helper_path(a, k->helper);
	char **argv = arena_newn0(a, char *, 3);
	struct proc_spec spec = PROC_SPEC_INIT;
	struct str rest = str_of(text);
	struct proc_output result;
	auto_buf out = BUF(4096), said = BUF(4096);
	auto_call call;

	if (!path)
		return err_set(e, ERR_DENIED, "the map of %s ids needs root, or the program %s", k->name, k->helper);
	argv[0] = (char *)k->helper;
	argv[1] = arena_printf(a, "%d", pid);
	while (rest.p && rest.len) {
		struct str line = str_cut(&rest, '\n');

		while (line.p && line.len)
			argv = strv_append(a, argv, str_dup(a, str_cut(&line, ' ')));
	}
	spec.file = path;
	spec.argv = argv;
	call_begin(&call, clock_mono_ns() + HELPER_PATIENCE_S * NS_PER_S);
	if (proc_run(&call, &spec, (struct str){ 0 }, &out, &said, &result, e) < 0)
		return err_in(e, "%s", k->helper);
	if (result.exit.code)
		return err_set(e, ERR_DENIED, "the map of %s ids: %.*s", k->name, STR_ARG(str_trim(buf_str(&said))));
	return 0;
}

static int map_write(int proc_fd, pid_t pid, const char *file, const char *text)
{
	char path[64];
	auto_fd int fd = -1;

	(void)snprintf(path, sizeof(path), "%d/%s", pid, file);
	fd = openat(proc_fd, path, O_WRONLY | O_CLOEXEC);
	return fd < 0 || write(fd, text, strlen(text)) < 0 ? -1 : 0;
}

static int map_set(int proc_fd, pid_t pid, const struct kind *k, const struct idmap *map, size_t n, struct err *e)
{
	auto_arena a = { 0 };
	const char *text = map_text(&a, map, n);

	if (!n || n > IDMAP_MAX)
		return err_set(e, ERR_INVALID, "a map of %s ids with %zu entries", k->name, n);
	if (map_write(proc_fd, pid, k->file, text) == 0)
		return 0;
	if (errno != EPERM && errno != EACCES)
		return err_sys(e, errno, "the map of %s ids (%u → %u, %u…)", k->name, map[0].inside, map[0].outside,
			       map[0].size);
	/* One's own group alone may be mapped by anybody who gives up setgroups(2). */
	if (k == &gids && n == 1 && map[0].size == 1 && map[0].outside == getegid() &&
	    map_write(proc_fd, pid, "setgroups", "deny") == 0 && map_write(proc_fd, pid, k->file, text) == 0)
		return 0;
	return map_by_helper(&a, k, pid, text, e);
}

/* --- making --------------------------------------------------------------------------------------- */

NORETURN static void holder(int tell)
{
	/* What is asked of /proc about a process that is not dumpable is for the host's root only. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || (geteuid() != 0 && prctl(PR_SET_DUMPABLE, 1) < 0) ||
	    write(tell, "", 1) != 1)
		_exit(1);
	for (;;)
		(void)pause(); /* until killed */
}

static int part_open(int proc_fd, pid_t pid, const char *name, struct err *e)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "%d/ns/%s", pid, name);
	return fd_open(proc_fd, path, O_RDONLY, e);
}

static const char *part_name(int kind)
{
	return kind == CLONE_NEWNET ? "net" : kind == CLONE_NEWIPC ? "ipc" : kind == CLONE_NEWUTS ? "uts" : "user";
}

static int open_all(int proc_fd, pid_t pid, struct userns_part *parts, size_t nparts, int *out, struct err *e)
{
	auto_fd int user = part_open(proc_fd, pid, "user", e);

	if (user < 0)
		return -1;
	for (size_t i = 0; i < nparts; i++) {
		parts[i].fd = part_open(proc_fd, pid, part_name(parts[i].kind), e);
		if (parts[i].fd >= 0)
			continue;
		while (i-- > 0)
			fd_close(&parts[i].fd);
		return -1;
	}
	*out = fd_take(&user);
	return 0;
}

int userns_make(int proc_fd, const struct idmaps *maps, struct userns_part *parts, size_t nparts, int *out,
		struct err *e)
{
	struct clone_args args = { .flags = CLONE_NEWUSER, .exit_signal = SIGCHLD };
	auto_fd int heard = -1, tell = -1;
	char byte;
	long pid;
	int rc;

	for (size_t i = 0; i < nparts; i++)
		args.flags |= (unsigned)parts[i].kind;
	if (fd_pipe(&heard, &tell, e) < 0)
		return -1;
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid < 0)
		return err_sys(e, errno, "make a user namespace");
	if (pid == 0)
		holder(tell);
	fd_close(&tell);
	rc = fd_read_full(heard, &byte, 1, e);
	if (rc == 0)
		rc = map_set(proc_fd, (pid_t)pid, &uids, maps->uids, maps->nuids, e);
	if (rc == 0)
		rc = map_set(proc_fd, (pid_t)pid, &gids, maps->gids, maps->ngids, e);
	if (rc == 0)
		rc = open_all(proc_fd, (pid_t)pid, parts, nparts, out, e);
	(void)kill((pid_t)pid, SIGKILL); /* our child, not reaped yet */
	while (waitpid((pid_t)pid, NULL, 0) < 0 && errno == EINTR)
		;
	return rc < 0 ? err_in(e, "user namespace") : 0;
}

/* --- entering ------------------------------------------------------------------------------------- */

int userns_become_root(struct err *e)
{
	/* By number, on the system call: glibc's wrappers would tell other threads. EPERM: "deny" in the
	 * namespace's setgroups. */
	if (syscall(SYS_setgroups, 0, NULL) < 0 && errno != EPERM)
		return err_sys(e, errno, "leave the supplementary groups");
	if (syscall(SYS_setresgid, 0, 0, 0) < 0)
		return err_sys(e, errno, "become group 0 of the user namespace (linux.gidMappings maps it?)");
	if (syscall(SYS_setresuid, 0, 0, 0) < 0)
		return err_sys(e, errno, "become user 0 of the user namespace (linux.uidMappings maps it?)");
	/* The change makes memory readable where fs.suid_dumpable is not 0. */
	return prctl(PR_SET_DUMPABLE, 0) < 0 ? err_sys(e, errno, "stay non-dumpable") : 0;
}

int userns_enter(int fd, struct err *e)
{
	if (setns(fd, CLONE_NEWUSER) < 0)
		return err_sys(e, errno, "join the user namespace");
	return userns_become_root(e);
}
