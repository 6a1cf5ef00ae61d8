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
		return e->kind == ERR_NOT_FOUND ? 0 : -1;
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
	if (grace_ns < 0)
		return err_set(e, ERR_INVALID, "knarr stop: -t is at least 0");
	for (rc = 0; *words; words++) {
		if (cli_find(cli, *words, &found, e) < 0 ||
		    stop_one(cli, found.id, (grace_ns + NS_PER_S - 1) / NS_PER_S, e) < 0)
			rc = cli_fail(e, CLI_FAILED);
		else
			puts(*words);
	}
	return rc;
}

/* The pid of a container's first process; 0: it does not run. */
static int container_pid(struct cli *cli, const char *id, int64_t *out, struct err *e)
{
	Runtime__V1__ContainerStatusRequest in = RUNTIME__V1__CONTAINER_STATUS_REQUEST__INIT;
	Runtime__V1__ContainerStatusResponse *status;

	in.container_id = (char *)id;
	in.verbose = true;
	*out = 0;
	if (CRI_RUNTIME(cli->client, cli->call, ContainerStatus, container_status, &in, &status, e) < 0)
		return -1;
	if (!status->status || status->status->state != RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING)
		return 0;
	for (size_t i = 0; i < status->n_info; i++) {
		struct json *info;
		const struct json *pid;

		if (json_parse(cli->a, str_of(status->info[i]->value), &info, e) < 0)
			return -1;
		pid = json_get(info, "pid");
		if (pid && pid->type == JSON_NUMBER)
			return str_to_i64(pid->text, out, e);
	}
	return err_set(e, ERR_INTERNAL, "knarrd does not tell the pid of container %s", id);
}

/* Until the first process has ended. Asked once more with the pidfd in hand, the pid cannot be another's. No
 * connection is held meanwhile: a private knarrd may end. */
static int sleep_until_exit(struct cli *cli, const char *id, struct err *e)
{
	int64_t pid, again;
	auto_fd int pidfd = -1;

	if (container_pid(cli, id, &pid, e) < 0)
		return -1;
	if (!pid)
		return 0;
	pidfd = proc_pidfd_open((pid_t)pid, e);
	if (container_pid(cli, id, &again, e) < 0)
		return -1;
	if (pidfd < 0 || again != pid)
		return 0;
	cli_disconnect(cli);
	return io_wait(cli->call, pidfd, POLLIN, e) < 0 ? -1 : 0;
}

/* Removal after the exit: knarr-pod's record of it comes a moment later than the end of the process. */
static int remove_after_exit(struct cli *cli, const char *id, struct err *e)
{
	struct waited end;
	struct waiter *w;
	struct found found;
	int rc;

	if (cli_find(cli, id, &found, e) < 0 || sleep_until_exit(cli, found.id, e) < 0 || cli_connect(cli, e) < 0 ||
	    waiter_start(cli, found.id, &w, e) < 0)
		return -1;
	rc = waiter_result(w, cli->call, &end, e);
	waiter_end(w);
	return rc < 0 ? -1 : pod_remove(cli, found.pod_id, e);
}

static int remove_one(struct cli *cli, const char *name, bool force, struct err *e)
{
	struct found found;

	if (cli_find_any(cli, name, &found, e) < 0)
		return force && e->kind == ERR_NOT_FOUND ? 0 : -1;
	if (found.state == RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING && !force)
		return err_set(e, ERR_STATE, "container %s is running: stop it first, or knarr rm -f %s", name, name);
	if (pod_remove(cli, found.pod_id, e) < 0)
		return -1;
	puts(name);
	return 0;
}

int verb_rm(struct cli *cli, char *const *argv, struct err *e)
{
	bool force = false, after_exit = false;
	const struct opt opts[] = {
		{ OPT_FLAG, 'f', "force", &force, NULL, "Kill it first where it runs; absent is fine" },
		{ OPT_FLAG, 0, "after-exit", &after_exit, NULL, "Wait for its exit first (run -d --rm does)" },
		{ 0 },
	};
	char **words;
	int rc = cli_options(cli, "rm", opts, 0, argv, &words, e);

	if (rc)
		return rc < 0 ? -1 : 0;
	if (!words[0])
		return err_set(e, ERR_INVALID, "knarr rm: which container?");
	for (rc = 0; *words; words++) {
		if (!after_exit && remove_one(cli, *words, force, e) < 0)
			rc = cli_fail(e, CLI_FAILED);
		else if (after_exit && remove_after_exit(cli, *words, e) < 0 && e->kind != ERR_NOT_FOUND)
			rc = cli_fail(e, CLI_FAILED);
	}
	return rc;
}
