/* The first stage of a container with a user namespace (or a new time namespace): with all that the caller may do
 * it does what the namespace's root may not, enters it, and makes the container's process, which is its sibling. */
#include "runtime/child.h"

#include "base/fd.h"
#include "base/str.h"
#include "kernel/clone.h"
#include "runtime/stack.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- what needs the caller's rights --------------------------------------------------------------- */

/* Above the caller's hard limit only CAP_SYS_RESOURCE of the host leads. */
static void raise_limits(const struct plan_process *p)
{
	for (size_t i = 0; i < p->nrlimits; i++) {
		__rlimit_resource_t resource = (__rlimit_resource_t)p->rlimits[i].resource;
		struct rlimit now;

		if (getrlimit(resource, &now) < 0 || p->rlimits[i].limit.rlim_max <= now.rlim_max)
			continue;
		now.rlim_max = p->rlimits[i].limit.rlim_max;
		(void)setrlimit(resource, &now); /* the second stage sets what it may */
	}
}

/* The folders above a node in our own, empty /dev. */
static int make_parents(const char *path, struct err *e)
{
	char part[PATH_MAX];

	for (size_t i = 5; path[i] && i < sizeof(part); i++) {
		if (path[i] != '/')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		if (mkdir(part, 0755) < 0 && errno != EEXIST)
			return err_sys(e, errno, "make %s", part);
	}
	return 0;
}

static int make_node(const struct plan *p, const struct plan_device *d, struct err *e)
{
	uint32_t uid = 0, gid = 0;

	if (!starts_with(d->path, "/dev/"))
		return 0; /* bound from the host's node of that name, if there is one */
	if (make_parents(d->path, e) < 0)
		return -1;
	if (mknod(d->path, d->mode, d->dev) < 0)
		return err_sys(e, errno, "make the device %s", d->path);
	(void)idmap_outside(p->maps.uids, p->maps.nuids, d->uid, &uid);
	(void)idmap_outside(p->maps.gids, p->maps.ngids, d->gid, &gid);
	return chown(d->path, uid, gid) < 0 ? err_sys(e, errno, "device %s: change its owner", d->path) : 0;
}

/* In a user namespace no device can be made, only bound; and a sysfs is mounted only where one is seen already. A
 * lean mount namespace has neither the host's devices nor its sysfs. */
static int make_surroundings(const struct child *c, struct err *e)
{
	if (unshare(CLONE_NEWNS) < 0)
		return err_sys(e, errno, "make a mount namespace");
	if (mount("tmpfs", "/dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=755,size=64k") < 0)
		return err_sys(e, errno, "mount the devices' tmpfs");
	for (size_t i = 0; i < c->plan->ndevices; i++)
		if (make_node(c->plan, &c->plan->devices[i], e) < 0)
			return -1;
	if (mkdir("/dev/ sysfs", 0555) < 0 || /* no device has a name like that */
	    mount("sysfs", "/dev/ sysfs", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		return err_sys(e, errno, "mount a sysfs");
	return 0;
}

/* --- namespaces ----------------------------------------------------------------------------------- */

/* What belongs to the host is joined with the caller's rights, what belongs to the user namespace perhaps only with
 * those that one has in it. */
static int join_all(struct child *c, uint64_t *joined, bool is_last, struct err *e)
{
	for (size_t i = 0; i < c->njoins; i++) {
		if (*joined & BIT(i))
			continue;
		if (setns(c->joins[i].fd, c->joins[i].kind) == 0)
			*joined |= BIT(i);
		else if (is_last || errno != EPERM)
			return err_sys(e, errno, "join a namespace (kind %#x)", (unsigned)c->joins[i].kind);
	}
	return 0;
}

/* Opened with the caller's rights, that is whose count at the write. The host's root owns what belongs to a process
 * that is not dumpable; for a moment, in the host's pid namespace, this copy of the caller is. */
static int open_offsets(const struct child *c, struct err *e)
{
	int fd;

	if (prctl(PR_SET_DUMPABLE, 1) < 0)
		return err_sys(e, errno, "become dumpable");
	fd = fd_open(c->rt->proc_fd, "self/timens_offsets", O_WRONLY, e);
	if (prctl(PR_SET_DUMPABLE, 0) < 0) {
		fd_close(&fd);
		return err_sys(e, errno, "stay non-dumpable");
	}
	return fd < 0 ? err_in(e, "linux.timeOffsets") : fd;
}

static int make_time_ns(const struct child *c, int offsets, struct err *e)
{
	const char *text = c->plan->time_offsets;

	if (unshare(CLONE_TIME) < 0)
		return err_sys(e, errno, "make a time namespace");
	if (offsets >= 0 && write(offsets, text, strlen(text)) < 0)
		return err_sys(e, errno, "linux.timeOffsets");
	return 0;
}

static int enter(struct child *c, struct err *e)
{
	const struct plan *p = c->plan;
	auto_fd int offsets = -1;
	uint64_t joined = 0;

	if (child_early(c, e) < 0)
		return -1;
	raise_limits(c->process);
	if (p->time_offsets && (offsets = open_offsets(c, e)) < 0)
		return -1;
	if (join_all(c, &joined, p->userns_fd < 0, e) < 0)
		return -1;
	if (p->userns_fd >= 0 && c->rt->flags & RUNTIME_LEAN && make_surroundings(c, e) < 0)
		return -1;
	if (p->userns_fd >= 0 && (userns_enter(p->userns_fd, e) < 0 || join_all(c, &joined, true, e) < 0))
		return -1;
	return p->new_time_ns ? make_time_ns(c, offsets, e) : 0;
}

int child_stage(struct child *c, void (*next)(void *), struct err *e)
{
	struct clone_spec spec = {
		.namespaces = c->plan->clone_flags, .cgroup_fd = -1,
		/* We stand in the upper half. */
		.stack = c->rt->stack, .stack_bytes = RUNTIME_STACK_BYTES / 2,
		.flags = CLONE_SIBLING | (c->sync_fd < 0 ? CLONE_SHARE : 0), .pid_at = c->second,
	};
	int pidfd;

	if (enter(c, e) < 0 || clone_run(&spec, next, c, &pidfd, e) < 0)
		return -1;
	(void)syscall(SYS_exit_group, 0);
	return 0;
}
