#include "kernel/cgroup.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* --- joining ----------------------------------------------------------------------------------- */

static int join_one(const struct cgroup_hierarchy *h, const char *path, const char *file, const char *who,
		    struct err *e)
{
	char name[CGROUP_PATH_MAX + 100];
	auto_fd int fd = -1;
	ssize_t n;

	(void)snprintf(name, sizeof(name), "%s/%s", path, file);
	fd = openat(h->root_fd, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return err_sys(e, errno, "cgroup %s: open %s%s%s", path, h->name, *h->name ? "/" : "", file);
	do {
		n = write(fd, who, strlen(who));
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_sys(e, errno, "cgroup %s: join %s", path, *h->name ? h->name : "cgroup2");
	return 0;
}

int cgroup_join_self(const struct cgroup_layout *l, const char *path, const char *exec_path, int flags,
		     struct err *e)
{
	size_t exec_hierarchy = cgroup_exec_hierarchy(l);

	for (size_t i = 0; i < l->nh; i++) {
		bool v2 = l->h[i].controllers & BIT(CGROUP_UNIFIED);
		const char *to = exec_path && i == exec_hierarchy ? exec_path : path;

		if (v2 && flags & CGROUP_SKIP_UNIFIED)
			continue;
		if (join_one(&l->h[i], to, v2 ? "cgroup.procs" : "tasks", "0", e) < 0)
			return -1;
	}
	return 0;
}

int cgroup_join_self_in(const struct cgroup_layout *l, const char *path, unsigned hierarchies, struct err *e)
{
	for (size_t i = 0; i < l->nh; i++)
		if (hierarchies & BIT(i) &&
		    join_one(&l->h[i], path, l->h[i].controllers & BIT(CGROUP_UNIFIED) ? "cgroup.procs" : "tasks", "0", e) < 0)
			return -1;
	return 0;
}

int cgroup_join_pid_exec(const struct cgroup_layout *l, const char *path, pid_t pid, struct err *e)
{
	char who[16];

	(void)snprintf(who, sizeof(who), "%d", pid);
	return join_one(&l->h[cgroup_exec_hierarchy(l)], path, "cgroup.procs", who, e);
}

bool cgroup_is_hybrid(const struct cgroup_layout *l)
{
	return l->nh > 1 && l->of[CGROUP_UNIFIED] >= 0;
}

int cgroup_join_pid(const struct cgroup_layout *l, const char *path, pid_t pid, struct err *e)
{
	char who[16];

	(void)snprintf(who, sizeof(who), "%d", pid);
	for (size_t i = 0; i < l->nh; i++)
		if (join_one(&l->h[i], path, "cgroup.procs", who, e) < 0)
			return -1;
	return 0;
}

/* --- who is in it ------------------------------------------------------------------------------ */

struct pids {
	struct arena *a;
	pid_t *p;
	size_t n, cap;
};

static void add_pid(struct pids *v, pid_t pid)
{
	if (v->n == v->cap) {
		size_t cap = v->cap ? v->cap * 2 : 64;
		pid_t *more = arena_newn0(v->a, pid_t, cap);

		if (v->n)
			memcpy(more, v->p, v->n * sizeof(*more));
		v->p = more;
		v->cap = cap;
	}
	v->p[v->n++] = pid;
}

static int read_procs(int dir, struct pids *v)
{
	auto_fd int fd = openat(dir, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	char text[4096];
	pid_t pid = 0;
	ssize_t n;

	if (fd < 0)
		return errno;
	while ((n = read(fd, text, sizeof(text))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EOPNOTSUPP ? 0 : errno; /* a threaded cgroup of the container's own */
		for (ssize_t i = 0; i < n; i++) {
			if (text[i] >= '0' && text[i] <= '9') {
				pid = pid * 10 + (text[i] - '0');
			} else {
				if (pid > 0)
					add_pid(v, pid);
				pid = 0;
			}
		}
	}
	return 0;
}

/* 0 or an errno. A group that vanishes meanwhile has no members. */
static int walk(int dirfd, const char *path, struct pids *v)
{
	auto_fd int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	struct dirent *d;
	struct stat st;
	DIR *dir;
	int rc;

	if (fd < 0)
		return errno;
	rc = read_procs(fd, v);
	/* A leaf has two links: no need to list its many files. */
	if (rc || (fstat(fd, &st) == 0 && st.st_nlink == 2))
		return rc;
	dir = fdopendir(fd);
	if (!dir)
		return errno;
	while (!rc && (d = readdir(dir)))
		if (d->d_type == DT_DIR && d->d_name[0] != '.') {
			rc = walk(fd, d->d_name, v);
			if (rc == ENOENT || rc == ENODEV)
				rc = 0;
		}
	fd = -1;
	(void)closedir(dir);
	return rc;
}

int cgroup_pids(struct arena *a, const struct cgroup_layout *l, const char *path, pid_t **out, size_t *n,
		struct err *e)
{
	struct pids v = { .a = a };
	int rc = walk(l->h[cgroup_exec_hierarchy(l)].root_fd, path, &v);

	if (rc)
		return err_sys(e, rc, "cgroup %s: list its processes", path);
	*out = v.p;
	*n = v.n;
	return 0;
}

bool cgroup_is_populated(const struct cgroup_layout *l, const char *path)
{
	auto_arena a = { 0 };
	struct cgroup_text text;
	struct err e;
	pid_t *pids;
	size_t n;

	if (l->of[CGROUP_UNIFIED] >= 0)
		return cgroup_read(l, CGROUP_UNIFIED, path, "cgroup.events", &text, &e) == 0 &&
		       strstr(text.p, "populated 1");
	return cgroup_pids(&a, l, path, &pids, &n, &e) == 0 && n > 0;
}

int cgroup_signal(const struct cgroup_layout *l, const char *path, int sig, struct err *e)
{
	auto_arena a = { 0 };
	pid_t *pids;
	size_t n;

	if (cgroup_pids(&a, l, path, &pids, &n, e) < 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		if (kill(pids[i], sig) < 0 && errno != ESRCH)
			return err_sys(e, errno, "cgroup %s: signal %d to process %d", path, sig, pids[i]);
	return 0;
}

/* --- freezing ---------------------------------------------------------------------------------- */

enum { FREEZE_WAIT_MS = 2000 };

static bool by_v2(const struct cgroup_layout *l)
{
	/* In the hybrid layout the v1 freezer serves, where there is one: both would need both to thaw. */
	return l->mode == CGROUP_V2 || l->of[CGROUP_FREEZER] < 0;
}

bool cgroup_is_frozen(const struct cgroup_layout *l, const char *path)
{
	struct cgroup_text text;
	struct err e;

	if (by_v2(l))
		return cgroup_read(l, CGROUP_UNIFIED, path, "cgroup.events", &text, &e) == 0 &&
		       strstr(text.p, "frozen 1");
	return cgroup_read(l, CGROUP_FREEZER, path, "freezer.state", &text, &e) == 0 &&
	       !streq(text.p, "THAWED");
}

static bool is_frozen_through(const struct cgroup_layout *l, const char *path)
{
	struct cgroup_text text;
	struct err e;

	if (by_v2(l))
		return cgroup_is_frozen(l, path);
	return cgroup_read(l, CGROUP_FREEZER, path, "freezer.state", &text, &e) == 0 && streq(text.p, "FROZEN");
}

static int set_frozen(const struct cgroup_layout *l, const char *path, bool on, struct err *e)
{
	if (by_v2(l))
		return cgroup_write(l, CGROUP_UNIFIED, path, "cgroup.freeze", on ? "1" : "0", e);
	return cgroup_write(l, CGROUP_FREEZER, path, "freezer.state", on ? "FROZEN" : "THAWED", e);
}

int cgroup_freeze(const struct cgroup_layout *l, const char *path, struct err *e)
{
	int64_t until = clock_mono_ns() + FREEZE_WAIT_MS * NS_PER_MS;
	struct timespec pause = { .tv_nsec = 500000 };

	if (set_frozen(l, path, true, e) < 0)
		return -1;
	while (!is_frozen_through(l, path)) {
		struct err ignored;

		if (clock_mono_ns() > until) {
			(void)set_frozen(l, path, false, &ignored);
			return err_set(e, ERR_TIMEOUT, "cgroup %s: its processes did not freeze within %d ms", path,
				       FREEZE_WAIT_MS);
		}
		(void)nanosleep(&pause, NULL);
		/* v1 may stay FREEZING when a task forks at the wrong moment: asking again helps. */
		if (!by_v2(l))
			(void)set_frozen(l, path, true, &ignored);
	}
	return 0;
}

int cgroup_thaw(const struct cgroup_layout *l, const char *path, struct err *e)
{
	return set_frozen(l, path, false, e);
}

/* --- killing ----------------------------------------------------------------------------------- */

/* Without cgroup.kill: frozen, nobody can fork away; signalled; thawed, so that they die. */
static int kill_by_freezer(const struct cgroup_layout *l, const char *path, struct err *e)
{
	struct err ignored;
	int rc;

	for (int round = 0; round < 50; round++) {
		bool frozen = cgroup_freeze(l, path, &ignored) == 0;

		rc = cgroup_signal(l, path, SIGKILL, e);
		(void)cgroup_thaw(l, path, &ignored);
		if (rc < 0)
			return e->kind == ERR_NOT_FOUND ? 0 : -1;
		if (frozen || !cgroup_is_populated(l, path))
			return 0;
	}
	return err_set(e, ERR_TIMEOUT, "cgroup %s: its processes fork faster than they are killed", path);
}

int cgroup_kill(const struct cgroup_layout *l, const char *path, struct err *e)
{
	struct err ignored;

	if (!cgroup_exists(l, path))
		return 0;
	if (l->of[CGROUP_UNIFIED] >= 0) {
		if (cgroup_write(l, CGROUP_UNIFIED, path, "cgroup.kill", "1", &ignored) == 0) {
			/* A v1-frozen task does not die before it is thawed. */
			if (l->mode == CGROUP_HYBRID && cgroup_is_frozen(l, path))
				return cgroup_thaw(l, path, e);
			return 0;
		}
	}
	return kill_by_freezer(l, path, e);
}
