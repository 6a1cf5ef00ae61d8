#include "runtime/child.h"

#include "base/fd.h"
#include "base/str.h"
#include "spec/oci_state.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

int child_wait(struct child *c, enum child_stage stage, int *pid, struct err *e)
{
	struct child_message m = { .stage = stage };
	ssize_t n;

	if (send(c->sync_fd, &m, sizeof(m), MSG_NOSIGNAL) != sizeof(m))
		return err_sys(e, errno, "tell the parent");
	do {
		n = recv(c->sync_fd, &m, sizeof(m), 0);
	} while (n < 0 && errno == EINTR);
	if (n != sizeof(m))
		return err_set(e, ERR_CANCELLED, "the parent has given up");
	*pid = m.pid;
	return 0;
}

/* The last words: on shared memory they are in *e already. */
static void fail(struct child *c)
{
	if (c->sync_fd >= 0) {
		struct child_message m = { .stage = CHILD_FAILED, .e = *c->e };

		(void)send(c->sync_fd, &m, sizeof(m), MSG_NOSIGNAL);
	}
	(void)syscall(SYS_exit_group, 127);
}

static int run_hooks(struct child *c, const char *name, const struct json_vec *hooks,
		     const struct container_hooks_place *at, enum oci_status status, struct err *e)
{
	const struct container_spec *s = c->spec;
	struct oci_state state = {
		.oci_version = (char *)OCI_VERSION, .id = (char *)s->id, .status = (char *)oci_status_name(status),
		.pid = c->host_pid, .bundle = (char *)s->bundle, .annotations = s->config->annotations,
	};

	return hooks->count ? container_hooks_run(name, hooks, at, &state, e) : 0;
}

static int container(struct child *c, struct err *e)
{
	int pid = 0;

	if (!c->plan->staged && child_early(c, e) < 0)
		return -1;
	if (child_session(c, e) < 0 || (!c->plan->staged && child_join(c, e) < 0))
		return -1;
	if (c->plan->new_cgroup_ns && unshare(CLONE_NEWCGROUP) < 0)
		return err_sys(e, errno, "make a cgroup namespace");
	if (c->sync_fd >= 0 && child_wait(c, CHILD_IN_NAMESPACES, &pid, e) < 0)
		return -1;
	if (child_mounts(c, e) < 0)
		return -1;
	c->host_pid = pid;
	/* In the container's root, as with runc: what they mount at "./lib" is in the container. */
	if (c->hooks && run_hooks(c, "createContainer", &c->hooks->create_container,
				  &(struct container_hooks_place){ .in_cwd = true }, OCI_CREATING, e) < 0)
		return -1;
	if (child_pivot(c, e) < 0)
		return -1;
	return child_finish(c, e);
}

static void second_stage(void *child)
{
	struct child *c = child;

	(void)container(c, c->e); /* returns only with an error */
	fail(c);
}

void child_container(void *child)
{
	struct child *c = child;

	if (!c->plan->staged)
		second_stage(c);
	(void)child_stage(c, second_stage, c->e); /* so does this */
	fail(c);
}

void child_exec(void *child)
{
	struct child *c = child;

	if (child_early(c, c->e) == 0 && child_session(c, c->e) == 0 && child_join(c, c->e) == 0 &&
	    (!c->process->terminal || child_exec_terminal(c, c->e) == 0))
		(void)child_finish(c, c->e); /* returns only with an error */
	fail(c);
}

int child_start_hooks(struct child *c, struct err *e)
{
	if (!c->hooks)
		return 0;
	/* One that names no environment has the process's, as with runc. */
	return run_hooks(c, "startContainer", &c->hooks->start_container,
			 &(struct container_hooks_place){ .env = c->process->env }, OCI_CREATED, e);
}
