#include "cli/cli.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/proc.h"
#include "cri.pb-c.h"

#include <stdio.h>

static int stop_one(struct cli *cli, const char *id, int64_t grace_s, struct err *e)
{
	Runtime__V1__StopContainerRequest in = RUNTIME__V1__STOP_CONTAINER_REQUEST__INIT;
	Runtime__V1__StopContainerResponse *out;

	in.container_id = (char *)id;
	in.timeout = grace_s;
	return CRI_RUNTIME(cli->client, cli->call, StopContainer, stop_container, &in, &out, e);
}

int pod_remove(struct cli *cli, const char *pod_id, struct err *e)
{
	Runtime__V1__StopPodSandboxRequest stop = RUNTIME__V1__STOP_POD_SANDBOX_REQUEST__INIT;
	Runtime__V1__RemovePodSandboxRequest rm = RUNTIME__V1__REMOVE_POD_SANDBOX_REQUEST__INIT;
	Runtime__V1__StopPodSandboxResponse *stopped;
	Runtime__V1__RemovePodSandboxResponse *removed;

	stop.pod_sandbox_id = rm.pod_sandbox_id = (char *)pod_id;
	if (CRI_RUNTIME(cli->client, cli->call, StopPodSandbox, stop_pod_sandbox, &stop, &stopped, e) < 0)
		return -1;
	return CRI_RUNTIME(cli->client, cli->call, RemovePodSandbox, remove_pod_sandbox, &rm, &removed, e);
}

int verb_stop(struct cli *cli, char *const *argv, struct err *e)
{
	int64_t grace_ns = 10 * NS_PER_S;
	const struct opt opts[] = {
		{ OPT_DURATION, 't', "time", &grace_ns, "SECONDS", "How long it may take before it is killed (10)" },
		{ 0 },
	};
	struct found found;
	char **words;
	int rc = cli_options(cli, "stop", opts, 0, argv, &words, e);

	if (rc)
		return rc < 0 ? -1 : 0;
	if (!words[0])
		return err_set(e, ERR_INVALID, "knarr stop: which container?");
	for (; *words; words++) {
		if (cli_find(cli, *words, &found, e) < 0 ||
		    stop_one(cli, found.id, (grace_ns + NS_PER_S - 1) / NS_PER_S, e) < 0)
			return -1;
		puts(*words);
	}
	return 0;
}

/* Sleeps until the process has ended. A pid that is gone, or was taken by another since, has. */
static int wait_for_exit(struct cli *cli, int64_t pid, struct err *e)
{
	auto_fd int pidfd = pid > 0 ? proc_pidfd_open((pid_t)pid, e) : -1;

	if (pidfd < 0)
		return pid <= 0 || e->kind == ERR_NOT_FOUND ? 0 : -1;
	return io_wait(cli->call, pidfd, POLLIN, e) < 0 ? -1 : 0;
}

/* Removal after the exit: knarr-pod's record of it comes a moment later than the end of the process. */
static int remove_exited(struct cli *cli, const char *id, int64_t pid, struct err *e)
{
	struct waited end;
	struct waiter *w;
	struct found found;
	int rc;

	if (wait_for_exit(cli, pid, e) < 0 || cli_find(cli, id, &found, e) < 0 ||
	    waiter_start(cli, found.id, &w, e) < 0)
		return e->kind == ERR_NOT_FOUND ? 0 : -1;
	rc = waiter_result(w, cli->call, &end, e);
	waiter_end(w);
	return rc < 0 ? -1 : pod_remove(cli, found.pod_id, e);
}

int verb_rm(struct cli *cli, char *const *argv, struct err *e)
{
	bool force = false;
	int64_t after_exit_pid = -1;
	const struct opt opts[] = {
		{ OPT_FLAG, 'f', "force", &force, NULL, "Kill it first where it runs; absent is fine" },
		{ OPT_I64, 0, "after-exit", &after_exit_pid, "PID", "Wait for this process' end first (run -d --rm does)" },
		{ 0 },
	};
	struct found found;
	char **words;
	int rc = cli_options(cli, "rm", opts, 0, argv, &words, e);

	if (rc)
		return rc < 0 ? -1 : 0;
	if (!words[0])
		return err_set(e, ERR_INVALID, "knarr rm: which container?");
	if (after_exit_pid >= 0)
		return remove_exited(cli, words[0], after_exit_pid, e);
	for (; *words; words++) {
		if (cli_find(cli, *words, &found, e) < 0) {
			if (force && e->kind == ERR_NOT_FOUND)
				continue;
			return -1;
		}
		if (found.state == RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING && !force)
			return err_set(e, ERR_STATE, "container %s is running: stop it first, or knarr rm -f", *words);
		if (pod_remove(cli, found.pod_id, e) < 0)
			return -1;
		puts(*words);
	}
	return 0;
}
