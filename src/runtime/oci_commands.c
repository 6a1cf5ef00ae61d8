#include "runtime/oci.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/opt.h"
#include "base/proc.h"
#include "base/str.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

/* --- kill, delete --------------------------------------------------------------------------------- */

static int signal_number(const char *text, struct err *e)
{
	int64_t n;
	struct err ignored;

	if (str_to_i64(str_of(text), &n, &ignored) == 0 && n >= 0 && n < NSIG)
		return (int)n;
	if (starts_with(text, "SIG"))
		text += 3;
	for (int i = 1; i < NSIG; i++) {
		const char *name = sigabbrev_np(i);

		if (name && strcasecmp(name, text) == 0)
			return i;
	}
	if (strcasecmp(text, "RTMIN") == 0)
		return SIGRTMIN;
	if (strcasecmp(text, "RTMAX") == 0)
		return SIGRTMAX;
	if (strncasecmp(text, "RTMIN+", 6) == 0 && str_to_i64(str_of(text + 6), &n, e) == 0 && n <= SIGRTMAX - SIGRTMIN)
		return SIGRTMIN + (int)n;
	if (strncasecmp(text, "RTMAX-", 6) == 0 && str_to_i64(str_of(text + 6), &n, e) == 0 && n <= SIGRTMAX - SIGRTMIN)
		return SIGRTMAX - (int)n;
	return err_set(e, ERR_INVALID, "unknown signal \"%s\"", text);
}

int oci_kill_command(struct oci_app *app, char *const *argv, struct err *e)
{
	bool all = false;
	const struct opt opts[] = { { OPT_FLAG, 'a', "all", &all, NULL, "all processes" }, { 0 } };
	auto_fd int pidfd = -1;
	struct oci_record r;
	char **words;
	int sig;

	if (oci_options(app, opts, 0, argv, &words, e) < 0)
		return -1;
	if (!words[0] || (words[1] && words[2]))
		return err_set(e, ERR_INVALID, "kill: a container id and at most one signal are needed");
	sig = signal_number(words[1] ? words[1] : "SIGTERM", e);
	if (sig < 0 || oci_record_load(app, words[0], &r, e) < 0 || oci_runtime(app, e) < 0)
		return -1;
	if (all && oci_need_cgroup(&r, "kill --all", e) < 0)
		return -1;
	if (all)
		return sig == SIGKILL ? cgroup_kill(&app->rt.cgroups, r.cgroup, e) :
		       cgroup_signal(&app->rt.cgroups, r.cgroup, sig, e);
	/* In a pid namespace that others share, the end of the first process is not that of the others: they are
	 * killed whether it still lives or not. */
	if (sig == SIGKILL && r.shares_pids && r.cgroup && cgroup_is_populated(&app->rt.cgroups, r.cgroup))
		return cgroup_kill(&app->rt.cgroups, r.cgroup, e);
	if (oci_record_status(app, &r, &pidfd) == OCI_STOPPED)
		return err_set(e, ERR_STATE, "container not running");
	if (proc_signal(pidfd, sig, e) < 0)
		return -1;
	/* A frozen process takes the signal only when it thaws. */
	return sig == SIGKILL && r.cgroup && cgroup_is_frozen(&app->rt.cgroups, r.cgroup) ?
	       cgroup_thaw(&app->rt.cgroups, r.cgroup, e) : 0;
}

void oci_poststop(struct oci_app *app, const struct oci_record *r)
{
	struct oci_config c;
	struct err e;
	struct oci_state state = {
		.oci_version = (char *)OCI_VERSION, .id = r->id, .status = (char *)oci_status_name(OCI_STOPPED),
		.bundle = r->bundle, .annotations = r->annotations,
	};

	/* The bundle may be gone by now; a hook that fails stops nothing (runtime.md, step 13). */
	if (oci_bundle_load(app, r->bundle, &c, &e) == 0 && c.hooks && c.hooks->poststop.count)
		container_hooks_run_all(&c.hooks->poststop, &state);
}

int oci_record_end(struct oci_app *app, const struct oci_record *r, struct err *e)
{
	if (r->cgroup && container_cgroup_remove(&app->rt.cgroups, r->cgroup, 10000, e) < 0)
		return -1;
	oci_unit_end(r);
	if (oci_rdt_remove(r, e) < 0)
		return -1;
	oci_poststop(app, r);
	return oci_record_drop(app, r->id, e);
}

int oci_delete_command(struct oci_app *app, char *const *argv, struct err *e)
{
	bool force = false;
	const struct opt opts[] = { { OPT_FLAG, 'f', "force", &force, NULL, "kills it first" }, { 0 } };
	auto_fd int pidfd = -1;
	enum oci_status status;
	struct oci_record r;
	const char *id = NULL;
	char **words;

	if (oci_options(app, opts, 0, argv, &words, e) < 0)
		return -1;
	if (strv_len(words) != 1)
		return err_set(e, ERR_INVALID, "delete: exactly one container id is needed");
	id = words[0];
	if (oci_record_load(app, id, &r, e) < 0) {
		struct err why;

		if (e->kind != ERR_NOT_FOUND)
			return -1;
		(void)oci_record_drop(app, id, &why); /* what a create that was killed half-way has left */
		return force ? 0 : -1;
	}
	if (oci_runtime(app, e) < 0)
		return -1;
	status = oci_record_status(app, &r, &pidfd);
	if (status != OCI_STOPPED && status != OCI_CREATED && !force)
		return err_set(e, ERR_STATE, "cannot delete container %s that is not stopped: %s", id,
			       oci_status_name(status));
	if (pidfd >= 0) {
		struct pollfd end = { pidfd, POLLIN, 0 };

		(void)proc_signal(pidfd, SIGKILL, e); /* it may have ended by itself */
		if (r.cgroup && cgroup_kill(&app->rt.cgroups, r.cgroup, e) < 0)
			return -1;
		(void)poll(&end, 1, 10000);
	} else if (r.shares_pids && r.cgroup && cgroup_kill(&app->rt.cgroups, r.cgroup, e) < 0) {
		return -1;
	}
	return oci_record_end(app, &r, e);
}

/* --- pause, resume ------------------------------------------------------------------------ */

int oci_load_running(struct oci_app *app, const char *id, struct oci_record *r, enum oci_status *status, struct err *e)
{
	auto_fd int pidfd = -1;

	if (oci_record_load(app, id, r, e) < 0 || oci_runtime(app, e) < 0)
		return -1;
	*status = oci_record_status(app, r, &pidfd);
	if (*status == OCI_STOPPED)
		return err_set(e, ERR_STATE, "container %s is stopped", id);
	return 0;
}

int oci_pause_command(struct oci_app *app, char *const *argv, struct err *e)
{
	enum oci_status status;
	struct oci_record r;
	const char *id = NULL;

	if (oci_only_id(app, argv, &id, e) < 0 || oci_load_running(app, id, &r, &status, e) < 0)
		return -1;
	if (status == OCI_PAUSED)
		return err_set(e, ERR_STATE, "container not running or created: paused");
	if (oci_need_cgroup(&r, "pause", e) < 0)
		return -1;
	return cgroup_freeze(&app->rt.cgroups, r.cgroup, e);
}

int oci_resume_command(struct oci_app *app, char *const *argv, struct err *e)
{
	enum oci_status status;
	struct oci_record r;
	const char *id = NULL;

	if (oci_only_id(app, argv, &id, e) < 0 || oci_load_running(app, id, &r, &status, e) < 0)
		return -1;
	if (status != OCI_PAUSED)
		return err_set(e, ERR_STATE, "container not paused");
	return cgroup_thaw(&app->rt.cgroups, r.cgroup, e);
}
