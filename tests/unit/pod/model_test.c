#include "fakes.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/steps.h"
#include "base/str.h"
#include "store/catalog.h"
#include "test.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <dirent.h>

/* --- a model in a folder of its own ------------------------------------------------------------------------- */

struct world {
	char root[64];
	struct arena arena;
	struct catalog *catalog;
	struct pods *pods;
};

static struct pod_settings settings_of(struct world *w)
{
	return (struct pod_settings){
		.root = w->root, .run = arena_printf(&w->arena, "%s/run", w->root),
		.netns_dir = arena_printf(&w->arena, "%s/netns", w->root), .monitor_path = "knarr-pod",
		.create_limit_ns = 20 * NS_PER_S, .collect_limit_ns = 300 * NS_PER_MS,
	};
}

static void world_start(struct world *w)
{
	struct pod_settings s = settings_of(w);
	auto_call c;
	struct err e;

	assert_ok(catalog_open(arena_printf(&w->arena, "%s/catalog.db", w->root), &w->catalog, &e), e);
	assert_ok(pods_open(&s, w->catalog, (struct images *)w->root, NULL, &w->pods, &e), e);
	call_begin(&c, clock_mono_ns() + 10 * NS_PER_S);
	assert_ok(pods_wait_ready(w->pods, &c, &e), e);
}

static void world_stop(struct world *w)
{
	pods_close(w->pods);
	catalog_close(w->catalog);
	w->pods = NULL;
}

static void world_begin(struct world *w)
{
	*w = (struct world){ 0 };
	fakes_reset();
	(void)snprintf(w->root, sizeof(w->root), "/tmp/knarr-test-%d-XXXXXX", getpid());
	assert_non_null(mkdtemp(w->root));
	world_start(w);
}

static void world_end(struct world *w)
{
	struct err e;

	if (w->pods)
		world_stop(w);
	fake_monitors_die();
	assert_ok(fs_remove_tree(AT_FDCWD, w->root, &e), e); /* a mount that was left would keep it */
	arena_free(&w->arena);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

static struct pod_config pod_named(const char *name)
{
	return (struct pod_config){ .name = (char *)name, .namespace_ = "default", .uid = "u-1", .hostname = "web" };
}

static struct container_config container_named(const char *name)
{
	return (struct container_config){ .name = (char *)name, .image = "busybox" };
}

static const char *run(struct world *w, const struct pod_config *config)
{
	auto_call c;
	const char *id;
	struct err e;

	call_begin(&c, clock_mono_ns() + 10 * NS_PER_S);
	assert_ok(pod_run(w->pods, &c, POD_OWNER_KUBELET, config, &id, &e), e);
	return arena_strdup(&w->arena, id);
}

static const char *create(struct world *w, const char *pod, const char *name)
{
	const struct container_config config = container_named(name);
	auto_call c;
	const char *id;
	struct err e;

	call_begin(&c, clock_mono_ns() + 10 * NS_PER_S);
	assert_ok(container_create(w->pods, &c, POD_OWNER_KUBELET, pod, &config, &id, &e), e);
	return arena_strdup(&w->arena, id);
}

static void start(struct world *w, const char *id)
{
	auto_call c;
	struct err e;

	call_begin(&c, clock_mono_ns() + 10 * NS_PER_S);
	assert_ok(container_start(w->pods, &c, POD_OWNER_KUBELET, id, &e), e);
}

static void stop_and_remove(struct world *w, const char *pod)
{
	auto_call c;
	struct err e;

	call_begin(&c, clock_mono_ns() + 10 * NS_PER_S);
	assert_ok(pod_stop(w->pods, &c, POD_OWNER_KUBELET, pod, &e), e);
	assert_ok(pod_stop(w->pods, &c, POD_OWNER_KUBELET, pod, &e), e);
	assert_ok(pod_remove(w->pods, &c, POD_OWNER_KUBELET, pod, &e), e);
	assert_ok(pod_remove(w->pods, &c, POD_OWNER_KUBELET, pod, &e), e);
}

static size_t entries(struct world *w, const char *folder)
{
	DIR *d = opendir(arena_printf(&w->arena, "%s/%s", w->root, folder));
	size_t n = 0;

	for (struct dirent *x; d && (x = readdir(d));)
		n += x->d_name[0] != '.';
	if (d)
		(void)closedir(d);
	return n;
}

static int count_record(void *ctx, UNUSED const struct record *r, UNUSED struct err *e)
{
	++*(size_t *)ctx;
	return 0;
}

static void assert_nothing_remains(struct world *w)
{
	size_t records = 0;
	struct err e;

	assert_ok(catalog_each(w->catalog, CATALOG_PODS, count_record, &records, &e), e);
	assert_ok(catalog_each(w->catalog, CATALOG_CONTAINERS, count_record, &records, &e), e);
	assert_int_equal(records, 0);
	assert_int_equal(fakes.monitors, 0);
	assert_int_equal(fakes.networks, 0);
	assert_int_equal(fakes.snapshots, 0);
	assert_int_equal(fakes.cgroups, 0);
	assert_int_equal(entries(w, "netns"), 0);
	assert_int_equal(entries(w, "run/pods"), 0);
	assert_int_equal(entries(w, "pods"), 0);
	assert_int_equal(entries(w, "containers"), 0);
}

static size_t listed_pods(struct world *w, enum pod_owner owner)
{
	auto_arena a = { 0 };
	auto_pod_views v = { 0 };
	struct err e;

	assert_ok(pod_list(w->pods, &a, owner, NULL, &v, &e), e);
	return v.n;
}

static enum pod_state state_of_pod(struct world *w, const char *id)
{
	auto_arena a = { 0 };
	auto_pod_views v = { 0 };
	struct err e;

	assert_ok(pod_status(w->pods, &a, POD_OWNER_KUBELET, id, &v, &e), e);
	return v.v[0].state;
}

/* Waits for the state, and returns what the container is then. The view is only good for its values. */
static struct container_view await(struct world *w, const char *id, enum container_state state)
{
	struct container_view out;
	struct err e;

	for (int i = 0; i < 500; i++) {
		auto_container_views v = { 0 };

		assert_ok(container_status(w->pods, &w->arena, POD_OWNER_KUBELET, id, &v, &e), e);
		out = v.v[0];
		out.reason = arena_strdup(&w->arena, out.reason);
		out.message = arena_strdup(&w->arena, out.message);
		if (out.state == state)
			return out;
		(void)usleep(10000);
	}
	fail_msg("container %s is in state %d, wanted %d", id, out.state, state);
	return out;
}

/* --- a life --------------------------------------------------------------------------------------------------- */

TEST(a_pod_lives_and_leaves_nothing)
{
	struct world w;
	const struct pod_config config = pod_named("p");
	const char *pod, *k;

	world_begin(&w);
	pod = run(&w, &config);
	assert_int_equal(state_of_pod(&w, pod), POD_READY);
	assert_int_equal(fakes.networks, 1);
	assert_int_equal(entries(&w, "netns"), 1);
	k = create(&w, pod, "c");
	assert_int_equal(await(&w, k, CONTAINER_CREATED).exit_code, 0);
	start(&w, k);
	assert_true(await(&w, k, CONTAINER_RUNNING).pid > 0);
	stop_and_remove(&w, pod);
	assert_int_equal(listed_pods(&w, POD_OWNER_KUBELET), 0);
	assert_nothing_remains(&w);
	world_end(&w);
}

TEST(an_exit_has_its_code_and_reason)
{
	static const struct { int code; bool oom; const char *reason; } cases[] = {
		{ 0, false, "Completed" }, { 3, false, "Error" }, { 137, true, "OOMKilled" },
	};
	struct world w;
	const struct pod_config config = pod_named("p");
	const char *pod;

	world_begin(&w);
	pod = run(&w, &config);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *k = create(&w, pod, arena_printf(&w.arena, "c%zu", i));
		struct container_view v;

		start(&w, k);
		fake_container_exits(k, cases[i].code, cases[i].oom);
		v = await(&w, k, CONTAINER_EXITED);
		assert_int_equal(v.exit_code, cases[i].code);
		assert_string_equal(v.reason, cases[i].reason);
		assert_true(v.finished_wall_ns > 0);
	}
	stop_and_remove(&w, pod);
	assert_nothing_remains(&w);
	world_end(&w);
}

TEST(a_failed_start_is_exited_128_start_error)
{
	struct world w;
	const struct pod_config config = pod_named("p");
	struct container_view v;
	const char *pod, *k;
	auto_call c;
	struct err e;

	world_begin(&w);
	pod = run(&w, &config);
	k = create(&w, pod, "c");
	fakes.start_fails = true;
	call_begin(&c, 0);
	assert_err(container_start(w.pods, &c, POD_OWNER_KUBELET, k, &e), e, ERR_NOT_FOUND, "not found");
	v = await(&w, k, CONTAINER_EXITED);
	assert_int_equal(v.exit_code, 128);
	assert_string_equal(v.reason, "StartError");
	assert_true(v.finished_wall_ns > 0);
	assert_err(container_start(w.pods, &c, POD_OWNER_KUBELET, k, &e), e, ERR_STATE, "exited");
	stop_and_remove(&w, pod);
	assert_nothing_remains(&w);
	world_end(&w);
}

TEST(an_owner_sees_only_its_own)
{
	struct world w;
	const struct pod_config config = pod_named("p");
	auto_arena a = { 0 };
	auto_pod_views v = { 0 };
	const char *pod;
	auto_call c;
	struct err e;

	world_begin(&w);
	pod = run(&w, &config);
	assert_int_equal(listed_pods(&w, POD_OWNER_USER), 0);
	assert_int_equal(listed_pods(&w, POD_OWNER_KUBELET), 1);
	assert_err(pod_status(w.pods, &a, POD_OWNER_USER, pod, &v, &e), e, ERR_NOT_FOUND, pod);
	call_begin(&c, 0);
	assert_ok(pod_remove(w.pods, &c, POD_OWNER_USER, pod, &e), e);
	assert_int_equal(listed_pods(&w, POD_OWNER_KUBELET), 1);
	stop_and_remove(&w, pod);
	world_end(&w);
}

/* --- names ------------------------------------------------------------------------------------------------------ */

TEST(a_caller_that_comes_back_collects_the_result)
{
	struct world w;
	const struct pod_config config = pod_named("p");
	auto_call c;
	const char *id, *again;
	struct err e;

	world_begin(&w);
	fakes.net_add_ms = 200;
	call_begin(&c, clock_mono_ns() + 50 * NS_PER_MS);
	assert_err(pod_run(w.pods, &c, POD_OWNER_KUBELET, &config, &id, &e), e, ERR_TIMEOUT, "deadline");
	assert_int_equal(listed_pods(&w, POD_OWNER_KUBELET), 0);
	again = run(&w, &config);
	assert_int_equal(fakes.networks, 1);
	assert_int_equal(listed_pods(&w, POD_OWNER_KUBELET), 1);
	stop_and_remove(&w, again);
	assert_nothing_remains(&w);
	world_end(&w);
}

TEST(what_nobody_collects_is_undone)
{
	struct world w;
	const struct pod_config config = pod_named("p");
	auto_call c;
	const char *id;
	struct err e;

	world_begin(&w);
	fakes.net_add_ms = 100;
	call_begin(&c, clock_mono_ns() + 20 * NS_PER_MS);
	assert_err(pod_run(w.pods, &c, POD_OWNER_KUBELET, &config, &id, &e), e, ERR_TIMEOUT, "deadline");
	(void)usleep(700000);
	assert_nothing_remains(&w);
	stop_and_remove(&w, run(&w, &config));
	world_end(&w);
}

TEST(another_wish_under_the_same_name_ends_the_first)
{
	struct world w;
	struct pod_config config = pod_named("p");
	auto_call c;
	const char *id;
	struct err e;

	world_begin(&w);
	fakes.net_add_ms = 5000;
	call_begin(&c, clock_mono_ns() + 20 * NS_PER_MS);
	assert_err(pod_run(w.pods, &c, POD_OWNER_KUBELET, &config, &id, &e), e, ERR_TIMEOUT, "deadline");
	fakes.net_add_ms = 0;
	config.hostname = "other";
	id = run(&w, &config);
	assert_int_equal(fakes.networks, 1);
	stop_and_remove(&w, id);
	assert_nothing_remains(&w);
	world_end(&w);
}

TEST(a_name_in_use_is_refused)
{
	struct world w;
	const struct pod_config config = pod_named("p");
	const char *pod, *id;
	auto_call c;
	struct err e;

	world_begin(&w);
	pod = run(&w, &config);
	call_begin(&c, 0);
	assert_err(pod_run(w.pods, &c, POD_OWNER_KUBELET, &config, &id, &e), e, ERR_EXISTS, pod);
	assert_ok(pod_run(w.pods, &c, POD_OWNER_USER, &config, &id, &e), e);
	assert_ok(pod_remove(w.pods, &c, POD_OWNER_USER, id, &e), e);
	stop_and_remove(&w, pod);
	assert_nothing_remains(&w);
	world_end(&w);
}

/* --- failures --------------------------------------------------------------------------------------------------- */

TEST(a_failing_plugin_leaves_nothing)
{
	struct world w;
	const struct pod_config config = pod_named("p");
	const char *id;
	auto_call c;
	struct err e;

	world_begin(&w);
	fakes.net_add_fails = true;
	call_begin(&c, 0);
	assert_err(pod_run(w.pods, &c, POD_OWNER_KUBELET, &config, &id, &e), e, ERR_SYSTEM, "no more addresses");
	assert_nothing_remains(&w);
	world_end(&w);
}

TEST(a_network_that_is_not_released_keeps_the_pod_until_it_is)
{
	struct world w;
	const struct pod_config config = pod_named("p");
	const char *pod;
	auto_call c;
	struct err e;

	world_begin(&w);
	pod = run(&w, &config);
	fakes.net_del_fails = true;
	call_begin(&c, 0);
	assert_err(pod_stop(w.pods, &c, POD_OWNER_KUBELET, pod, &e), e, ERR_SYSTEM, "cannot release");
	assert_int_equal(state_of_pod(&w, pod), POD_STOPPED);
	assert_int_equal(entries(&w, "netns"), 1);
	fakes.net_del_fails = false;
	stop_and_remove(&w, pod);
	assert_nothing_remains(&w);
	world_end(&w);
}

TEST(a_pod_whose_making_cannot_be_undone_is_listed_as_stopped)
{
	struct world w;
	const struct pod_config config = pod_named("p");
	auto_arena a = { 0 };
	auto_pod_views v = { 0 };
	const char *id;
	auto_call c;
	struct err e;

	world_begin(&w);
	fakes.net_add_fails = fakes.net_del_fails = true;
	call_begin(&c, 0);
	assert_err(pod_run(w.pods, &c, POD_OWNER_KUBELET, &config, &id, &e), e, ERR_SYSTEM, "no more addresses");
	assert_ok(pod_list(w.pods, &a, POD_OWNER_KUBELET, NULL, &v, &e), e);
	assert_int_equal(v.n, 1);
	assert_int_equal(v.v[0].state, POD_STOPPED);
	fakes.net_del_fails = false;
	stop_and_remove(&w, v.v[0].id);
	assert_nothing_remains(&w);
	world_end(&w);
}

static const char *fail_at;

static int fail_step(const char *table, const char *step, struct err *e)
{
	char name[128];

	(void)snprintf(name, sizeof(name), "%s.%s", table, step);
	return fail_at && streq(name, fail_at) ? err_set(e, ERR_SYSTEM, "made to fail") : 0;
}

static const char *const all_steps[] = {
	"keep_steps.record", "keep_steps.folder", "run_steps.files", "run_steps.shm", "run_steps.cgroup",
	"run_steps.monitor", "run_steps.netns", "run_steps.network", "run_steps.watch", "run_steps.containers",
	"make_steps.record", "make_steps.snapshot", "make_steps.bundle", "make_steps.cgroup",
};

TEST(every_step_that_fails_is_undone)
{
	const struct pod_config config = pod_named("p");
	const struct container_config cc = container_named("c");
	struct world w;
	struct err e;

	world_begin(&w);
	steps_fault = fail_step;
	for (size_t i = 0; i < ARRAY_SIZE(all_steps); i++) {
		bool of_pod = !starts_with(all_steps[i], "make_steps");
		const char *id, *pod = of_pod ? NULL : run(&w, &config);
		auto_call c;

		call_begin(&c, 0);
		fail_at = all_steps[i];
		if (of_pod)
			assert_err(pod_run(w.pods, &c, POD_OWNER_KUBELET, &config, &id, &e), e, ERR_SYSTEM, "made to fail");
		else
			assert_err(container_create(w.pods, &c, POD_OWNER_KUBELET, pod, &cc, &id, &e), e, ERR_SYSTEM,
				   "made to fail");
		fail_at = NULL;
		if (pod)
			stop_and_remove(&w, pod);
		assert_nothing_remains(&w);
	}
	steps_fault = NULL;
	world_end(&w);
}

/* --- stops ------------------------------------------------------------------------------------------------------ */

struct stopper {
	struct world *w;
	const char *id;
	int64_t grace_ns;
};

static void *stop_thread(void *arg)
{
	struct stopper *s = arg;
	auto_call c;
	struct err e;

	call_begin(&c, 0);
	if (container_stop(s->w->pods, &c, POD_OWNER_KUBELET, s->id, s->grace_ns, &e) < 0)
		print_error("stop: %s\n", e.msg);
	return NULL;
}

TEST(a_later_stop_with_less_grace_shortens_the_first)
{
	struct world w;
	const struct pod_config config = pod_named("p");
	struct stopper s = { .w = &w, .grace_ns = 60 * NS_PER_S };
	int64_t began;
	const char *pod;
	pthread_t first;

	world_begin(&w);
	pod = run(&w, &config);
	s.id = create(&w, pod, "c");
	start(&w, s.id);
	fakes.ignores_term = true;
	began = clock_mono_ns();
	assert_int_equal(pthread_create(&first, NULL, stop_thread, &s), 0);
	(void)usleep(100000);
	(void)stop_thread(&(struct stopper){ &w, s.id, 200 * NS_PER_MS });
	(void)pthread_join(first, NULL);
	assert_true(clock_mono_ns() - began < 5 * NS_PER_S);
	assert_int_equal(fakes.signals, 1);
	assert_int_equal(await(&w, s.id, CONTAINER_EXITED).exit_code, 137);
	stop_and_remove(&w, pod);
	assert_nothing_remains(&w);
	world_end(&w);
}

TEST(a_stop_sends_the_stop_signal_first)
{
	struct world w;
	const struct pod_config config = pod_named("p");
	const char *pod, *k;

	world_begin(&w);
	pod = run(&w, &config);
	k = create(&w, pod, "c");
	start(&w, k);
	(void)stop_thread(&(struct stopper){ &w, k, 10 * NS_PER_S });
	assert_int_equal(await(&w, k, CONTAINER_EXITED).exit_code, 128 + SIGTERM);
	assert_int_equal(fakes.kills, 0);
	stop_and_remove(&w, pod);
	world_end(&w);
}

TEST(a_monitor_that_does_not_answer_is_killed_with_what_it_holds)
{
	struct world w;
	const struct pod_config config = pod_named("p");
	struct container_view v;
	const char *pod, *k;
	int64_t began;

	world_begin(&w);
	pod = run(&w, &config);
	k = create(&w, pod, "c");
	start(&w, k);
	fakes.monitor_mute = true;
	began = clock_mono_ns();
	(void)stop_thread(&(struct stopper){ &w, k, 0 });
	assert_true(clock_mono_ns() - began < 3 * NS_PER_S);
	v = await(&w, k, CONTAINER_EXITED);
	assert_int_equal(v.exit_code, 137);
	assert_string_equal(v.reason, "MonitorDied");
	assert_int_equal(state_of_pod(&w, pod), POD_STOPPED);
	fakes.monitor_mute = false;
	stop_and_remove(&w, pod);
	assert_nothing_remains(&w);
	world_end(&w);
}

TEST(when_a_monitor_dies_its_containers_are_exited_137)
{
	struct world w;
	const struct pod_config config = pod_named("p");
	struct container_view v;
	const char *pod, *k;

	world_begin(&w);
	pod = run(&w, &config);
	k = create(&w, pod, "c");
	start(&w, k);
	fake_monitors_die();
	v = await(&w, k, CONTAINER_EXITED);
	assert_int_equal(v.exit_code, 137);
	assert_string_equal(v.reason, "MonitorDied");
	assert_int_equal(state_of_pod(&w, pod), POD_STOPPED);
	assert_int_equal(fakes.dels, 0);
	stop_and_remove(&w, pod);
	assert_int_equal(fakes.dels, 1);
	assert_nothing_remains(&w);
	world_end(&w);
}

/* --- what is done to containers ------------------------------------------------------------------------------------ */

TEST(an_update_is_remembered_and_written_to_config_json)
{
	const struct pod_config config = pod_named("p");
	const struct config_resources change = { .memory_bytes = 123456789 };
	struct config_resources now;
	struct world w;
	const char *pod, *k;
	auto_call c;
	struct str text;
	struct err e;

	world_begin(&w);
	pod = run(&w, &config);
	k = create(&w, pod, "c");
	call_begin(&c, 0);
	assert_ok(container_update(w.pods, &c, POD_OWNER_KUBELET, k, &change, NULL, &e), e);
	assert_ok(container_resources(w.pods, &c.arena, POD_OWNER_KUBELET, k, &now, &e), e);
	assert_int_equal(now.memory_bytes, 123456789);
	assert_ok(fs_read_file(&c.arena, AT_FDCWD,
			       arena_printf(&c.arena, "%s/containers/%s/config.json", w.root, k), 1 << 20, &text, &e), e);
	assert_non_null(strstr(text.p, "123456789"));
	start(&w, k);
	assert_ok(container_resources(w.pods, &c.arena, POD_OWNER_KUBELET, k, &now, &e), e);
	assert_int_equal(now.memory_bytes, 4096); /* the kernel's */
	fake_container_exits(k, 0, false);
	(void)await(&w, k, CONTAINER_EXITED);
	assert_err(container_update(w.pods, &c, POD_OWNER_KUBELET, k, &change, NULL, &e), e, ERR_STATE, "exited");
	stop_and_remove(&w, pod);
	world_end(&w);
}

TEST(exec_sync_needs_a_running_container_and_tells_a_timeout)
{
	const struct pod_config config = pod_named("p");
	char *argv[] = { "ls", NULL }, *slow[] = { "sleep", NULL };
	struct exec_result r;
	struct world w;
	const char *pod, *k;
	auto_call c;
	struct err e;

	world_begin(&w);
	pod = run(&w, &config);
	k = create(&w, pod, "c");
	call_begin(&c, 0);
	assert_err(container_exec_sync(w.pods, &c, POD_OWNER_KUBELET, k, argv, 0, &r, &e), e, ERR_STATE, "not running");
	start(&w, k);
	assert_ok(container_exec_sync(w.pods, &c, POD_OWNER_KUBELET, k, argv, 0, &r, &e), e);
	assert_int_equal(r.exit_code, 3);
	assert_err(container_exec_sync(w.pods, &c, POD_OWNER_KUBELET, k, slow, NS_PER_S, &r, &e), e, ERR_TIMEOUT, "sleep");
	stop_and_remove(&w, pod);
	world_end(&w);
}

TEST(events_are_told_in_order_and_to_their_owner)
{
	static const enum pod_event_kind want[] = { POD_EVENT_CREATED, POD_EVENT_STARTED, POD_EVENT_CREATED,
						    POD_EVENT_STARTED, POD_EVENT_STOPPED };
	const struct pod_config config = pod_named("p");
	struct pod_event ev;
	uint64_t from, other = 1;
	struct world w;
	const char *pod, *k;
	auto_call c;
	struct err e;

	world_begin(&w);
	from = pod_events_next_number(w.pods);
	pod = run(&w, &config);
	k = create(&w, pod, "c");
	start(&w, k);
	fake_container_exits(k, 0, false);
	call_begin(&c, clock_mono_ns() + 5 * NS_PER_S);
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		assert_ok(pod_event_wait(w.pods, &c, POD_OWNER_KUBELET, &from, &ev, &e), e);
		assert_int_equal(ev.kind, want[i]);
		assert_string_equal(ev.container_id, i < 2 ? pod : k);
	}
	c.deadline_ns = clock_mono_ns() + 10 * NS_PER_MS;
	assert_err(pod_event_wait(w.pods, &c, POD_OWNER_USER, &other, &ev, &e), e, ERR_TIMEOUT, "deadline");
	stop_and_remove(&w, pod);
	world_end(&w);
}

TEST(stats_come_from_the_cgroup)
{
	const struct pod_config config = pod_named("p");
	auto_arena a = { 0 };
	auto_container_stats s = { 0 };
	struct world w;
	const char *pod, *k;
	struct err e;

	world_begin(&w);
	pod = run(&w, &config);
	k = create(&w, pod, "c");
	start(&w, k);
	assert_ok(container_stats(w.pods, &a, POD_OWNER_KUBELET, k, &s, &e), e);
	assert_int_equal(s.v[0].usage.memory_working_set_bytes, 60);
	assert_int_equal(s.v[0].usage.memory_available_bytes, 940);
	assert_int_equal(s.v[0].layer_bytes, 4096);
	container_stats_release(&s);
	stop_and_remove(&w, pod);
	world_end(&w);
}

/* --- restarts ---------------------------------------------------------------------------------------------------- */

TEST(a_restart_adopts_what_runs_and_hears_what_ended)
{
	const struct pod_config config = pod_named("p");
	struct container_view v;
	struct world w;
	const char *pod, *runs, *ended, *created;

	world_begin(&w);
	pod = run(&w, &config);
	runs = create(&w, pod, "runs");
	ended = create(&w, pod, "ended");
	created = create(&w, pod, "created");
	start(&w, runs);
	start(&w, ended);
	world_stop(&w);
	fake_container_exits(ended, 7, false);
	world_start(&w);
	assert_int_equal(state_of_pod(&w, pod), POD_READY);
	v = await(&w, ended, CONTAINER_EXITED);
	assert_int_equal(v.exit_code, 7);
	(void)await(&w, runs, CONTAINER_RUNNING);
	(void)await(&w, created, CONTAINER_CREATED);
	start(&w, created);
	fake_container_exits(runs, 1, false);
	assert_int_equal(await(&w, runs, CONTAINER_EXITED).exit_code, 1);
	stop_and_remove(&w, pod);
	assert_nothing_remains(&w);
	world_end(&w);
}

TEST(a_restart_finds_dead_monitors_and_their_pods_not_ready)
{
	const struct pod_config config = pod_named("p");
	struct world w;
	const char *pod, *k;

	world_begin(&w);
	pod = run(&w, &config);
	k = create(&w, pod, "c");
	start(&w, k);
	world_stop(&w);
	fake_monitors_die();
	world_start(&w);
	assert_int_equal(state_of_pod(&w, pod), POD_STOPPED);
	assert_int_equal(await(&w, k, CONTAINER_EXITED).exit_code, 137);
	stop_and_remove(&w, pod);
	assert_nothing_remains(&w);
	world_end(&w);
}

TEST(after_a_reboot_all_is_stopped_and_old_exits_keep_their_code)
{
	const struct record boot = { .id = "boot_id", .body = STR("{\"version\":1,\"boot_id\":\"another\"}") };
	const struct pod_config config = pod_named("p");
	struct container_view v;
	struct world w;
	const char *pod, *runs, *ended;
	struct err e;

	world_begin(&w);
	pod = run(&w, &config);
	runs = create(&w, pod, "runs");
	ended = create(&w, pod, "ended");
	start(&w, runs);
	start(&w, ended);
	fake_container_exits(ended, 9, false);
	(void)await(&w, ended, CONTAINER_EXITED);
	assert_ok(catalog_put(w.catalog, CATALOG_META, &boot, &e), e);
	world_stop(&w);
	fake_monitors_die();
	world_start(&w);
	assert_int_equal(state_of_pod(&w, pod), POD_STOPPED);
	v = await(&w, runs, CONTAINER_EXITED);
	assert_int_equal(v.exit_code, 255);
	assert_string_equal(v.reason, "Unknown");
	assert_int_equal(await(&w, ended, CONTAINER_EXITED).exit_code, 9);
	stop_and_remove(&w, pod);
	assert_nothing_remains(&w);
	world_end(&w);
}
