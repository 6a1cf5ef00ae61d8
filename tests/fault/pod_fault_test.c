#include "fakes.h"
#include "world.h"

#include "base/clock.h"
#include "base/steps.h"
#include "base/str.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const all_steps[] = {
	"keep_steps.record", "keep_steps.folder", "run_steps.files", "run_steps.monitor", "run_steps.shm",
	"run_steps.cgroup", "run_steps.born", "run_steps.netns", "run_steps.network", "run_steps.watch", "run_steps.containers",
	"make_steps.record", "make_steps.snapshot", "make_steps.bundle", "make_steps.cgroup",
};

static bool is_of_pod(const char *step)
{
	return !starts_with(step, "make_steps");
}

/* --- faults --------------------------------------------------------------------------------------------------- */

static const char *fault_at; /* "TABLE.STEP" or "TABLE.undo STEP" */
static bool fault_kills;

static int fault(const char *table, const char *step, struct err *e)
{
	char name[160];

	(void)snprintf(name, sizeof(name), "%s.%s", table, step);
	if (!fault_at || !streq(name, fault_at))
		return 0;
	if (fault_kills)
		_exit(9);
	return err_set(e, ERR_SYSTEM, "made to fail");
}

static char *undo_of(struct world *w, const char *step)
{
	const char *dot = strchr(step, '.');

	return arena_printf(&w->arena, "%.*s.undo %s", (int)(dot - step), step, dot + 1);
}

/* --- failing -------------------------------------------------------------------------------------------------- */

TEST(every_step_that_fails_is_undone)
{
	const struct pod_config config = pod_named("p");
	const struct container_config cc = container_named("c");
	struct world w;
	struct err e;

	world_begin(&w);
	steps_fault = fault;
	for (size_t i = 0; i < ARRAY_SIZE(all_steps); i++) {
		const char *id, *pod = is_of_pod(all_steps[i]) ? NULL : world_run(&w, &config);
		auto_call c;

		call_begin(&c, 0);
		fault_at = all_steps[i];
		if (!pod)
			assert_err(pod_run(w.pods, &c, POD_OWNER_KUBELET, &config, &id, &e), e, ERR_SYSTEM, "made to fail");
		else
			assert_err(container_create(w.pods, &c, POD_OWNER_KUBELET, pod, &cc, &id, &e), e, ERR_SYSTEM,
				   "made to fail");
		fault_at = NULL;
		if (pod)
			world_remove_pod(&w, pod);
		assert_nothing_remains(&w);
	}
	steps_fault = NULL;
	world_end(&w);
}

TEST(every_undo_that_fails_is_done_by_the_next_stop_or_remove)
{
	const struct pod_config config = pod_named("p");
	struct world w;
	struct err e;

	world_begin(&w);
	steps_fault = fault;
	for (size_t i = 0; i < ARRAY_SIZE(all_steps); i++) {
		const char *pod = world_run(&w, &config);
		auto_call c;

		world_start_container(&w, world_create(&w, pod, "c"));
		call_begin(&c, 0);
		fault_at = undo_of(&w, all_steps[i]);
		assert_err(pod_remove(w.pods, &c, POD_OWNER_KUBELET, pod, &e), e, ERR_SYSTEM, "made to fail");
		fault_at = NULL;
		assert_int_equal(world_listed_pods(&w, POD_OWNER_KUBELET), 1);
		world_remove_pod(&w, pod);
		assert_nothing_remains(&w);
	}
	steps_fault = NULL;
	world_end(&w);
}

/* --- dying ---------------------------------------------------------------------------------------------------- */

/* What the knarrd that is to die does, until it dies. */
static void play(struct world *w, const char *until)
{
	const struct pod_config config = pod_named("p");
	const char *pod;
	auto_call c;
	struct err e;

	fault_at = until;
	fault_kills = true;
	steps_fault = fault;
	world_start(w);
	pod = world_run(w, &config);
	world_start_container(w, world_create(w, pod, "c"));
	call_begin(&c, 0);
	(void)pod_remove(w->pods, &c, POD_OWNER_KUBELET, pod, &e);
	_exit(1);
}

static void die_and_recover(struct world *w, const char *until)
{
	auto_arena a = { 0 };
	auto_pod_views v = { 0 };
	struct err e;
	pid_t pid;
	int status;

	world_stop(w);
	pid = fork();
	if (pid == 0)
		play(w, until);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 9)
		fail_msg("%s: the child did not die there (status %x)", until, status);
	fakes_after_crash();
	world_start(w);
	/* What was listed may be there; all else is undone by the start alone. */
	assert_ok(pod_list(w->pods, &a, POD_OWNER_KUBELET, NULL, &v, &e), e);
	for (size_t i = 0; i < v.n; i++)
		world_remove_pod(w, v.v[i].id);
	assert_nothing_remains(w);
}

TEST(whoever_dies_before_a_step_leaves_nothing)
{
	struct world w;

	world_begin(&w);
	for (size_t i = 0; i < ARRAY_SIZE(all_steps); i++)
		die_and_recover(&w, all_steps[i]);
	world_end(&w);
}

TEST(whoever_dies_before_an_undo_leaves_nothing)
{
	struct world w;

	world_begin(&w);
	for (size_t i = 0; i < ARRAY_SIZE(all_steps); i++)
		die_and_recover(&w, undo_of(&w, all_steps[i]));
	world_end(&w);
}
