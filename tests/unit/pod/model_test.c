#include "fakes.h"
#include "world.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"
#include "test.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

/* --- a life --------------------------------------------------------------------------------------------------- */

TEST(a_pod_lives_and_leaves_nothing)
{
	struct world w;
	const struct pod_config config = pod_named("p");
	const char *pod, *k;

	world_begin(&w);
	pod = world_run(&w, &config);
	assert_int_equal(world_pod_state(&w, pod), POD_READY);
	assert_int_equal(fakes.networks, 1);
	assert_int_equal(world_entries(&w, "netns"), 1);
	k = world_create(&w, pod, "c");
	assert_int_equal(world_await(&w, k, CONTAINER_CREATED).exit_code, 0);
	world_start_container(&w, k);
	assert_true(world_await(&w, k, CONTAINER_RUNNING).pid > 0);
	world_remove_pod(&w, pod);
	assert_int_equal(world_listed_pods(&w, POD_OWNER_KUBELET), 0);
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
	pod = world_run(&w, &config);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *k = world_create(&w, pod, arena_printf(&w.arena, "c%zu", i));
		struct container_view v;

		world_start_container(&w, k);
		fake_container_exits(k, cases[i].code, cases[i].oom);
		v = world_await(&w, k, CONTAINER_EXITED);
		assert_int_equal(v.exit_code, cases[i].code);
		assert_string_equal(v.reason, cases[i].reason);
		assert_true(v.finished_wall_ns > 0);
	}
	world_remove_pod(&w, pod);
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
	pod = world_run(&w, &config);
	k = world_create(&w, pod, "c");
	fakes.start_fails = true;
	call_begin(&c, 0);
	assert_err(container_start(w.pods, &c, POD_OWNER_KUBELET, k, &e), e, ERR_NOT_FOUND, "not found");
	v = world_await(&w, k, CONTAINER_EXITED);
	assert_int_equal(v.exit_code, 128);
	assert_string_equal(v.reason, "StartError");
	assert_true(v.finished_wall_ns > 0);
	assert_err(container_start(w.pods, &c, POD_OWNER_KUBELET, k, &e), e, ERR_STATE, "exited");
	world_remove_pod(&w, pod);
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
	pod = world_run(&w, &config);
	assert_int_equal(world_listed_pods(&w, POD_OWNER_USER), 0);
	assert_int_equal(world_listed_pods(&w, POD_OWNER_KUBELET), 1);
	assert_err(pod_status(w.pods, &a, POD_OWNER_USER, pod, &v, &e), e, ERR_NOT_FOUND, pod);
	call_begin(&c, 0);
	assert_ok(pod_remove(w.pods, &c, POD_OWNER_USER, pod, &e), e);
	assert_int_equal(world_listed_pods(&w, POD_OWNER_KUBELET), 1);
	world_remove_pod(&w, pod);
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
	assert_int_equal(world_listed_pods(&w, POD_OWNER_KUBELET), 0);
	again = world_run(&w, &config);
	assert_int_equal(fakes.networks, 1);
	assert_int_equal(world_listed_pods(&w, POD_OWNER_KUBELET), 1);
	world_remove_pod(&w, again);
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
	for (int i = 0; i < 1000 && world_records(&w) > 0; i++)
		(void)usleep(20000); /* the record is the last to go */
	assert_nothing_remains(&w);
	world_remove_pod(&w, world_run(&w, &config));
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
	id = world_run(&w, &config);
	assert_int_equal(fakes.networks, 1);
	world_remove_pod(&w, id);
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
	pod = world_run(&w, &config);
	call_begin(&c, 0);
	assert_err(pod_run(w.pods, &c, POD_OWNER_KUBELET, &config, &id, &e), e, ERR_EXISTS, pod);
	assert_ok(pod_run(w.pods, &c, POD_OWNER_USER, &config, &id, &e), e);
	assert_ok(pod_remove(w.pods, &c, POD_OWNER_USER, id, &e), e);
	world_remove_pod(&w, pod);
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
	pod = world_run(&w, &config);
	fakes.net_del_fails = true;
	call_begin(&c, 0);
	assert_err(pod_stop(w.pods, &c, POD_OWNER_KUBELET, pod, &e), e, ERR_SYSTEM, "cannot release");
	assert_int_equal(world_pod_state(&w, pod), POD_STOPPED);
	assert_int_equal(world_entries(&w, "netns"), 1);
	fakes.net_del_fails = false;
	world_remove_pod(&w, pod);
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
	world_remove_pod(&w, v.v[0].id);
	assert_nothing_remains(&w);
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
	pod = world_run(&w, &config);
	s.id = world_create(&w, pod, "c");
	world_start_container(&w, s.id);
	fakes.ignores_term = true;
	began = clock_mono_ns();
	assert_int_equal(pthread_create(&first, NULL, stop_thread, &s), 0);
	(void)usleep(100000);
	(void)stop_thread(&(struct stopper){ &w, s.id, 200 * NS_PER_MS });
	(void)pthread_join(first, NULL);
	assert_true(clock_mono_ns() - began < 5 * NS_PER_S);
	assert_int_equal(fakes.signals, 1);
	assert_int_equal(world_await(&w, s.id, CONTAINER_EXITED).exit_code, 137);
	world_remove_pod(&w, pod);
	assert_nothing_remains(&w);
	world_end(&w);
}

TEST(a_stop_sends_the_stop_signal_first)
{
	struct world w;
	const struct pod_config config = pod_named("p");
	const char *pod, *k;

	world_begin(&w);
	pod = world_run(&w, &config);
	k = world_create(&w, pod, "c");
	world_start_container(&w, k);
	(void)stop_thread(&(struct stopper){ &w, k, 10 * NS_PER_S });
	assert_int_equal(world_await(&w, k, CONTAINER_EXITED).exit_code, 128 + SIGTERM);
	assert_int_equal(fakes.kills, 0);
	world_remove_pod(&w, pod);
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
	pod = world_run(&w, &config);
	k = world_create(&w, pod, "c");
	world_start_container(&w, k);
	fakes.monitor_mute = true;
	began = clock_mono_ns();
	(void)stop_thread(&(struct stopper){ &w, k, 0 });
	assert_true(clock_mono_ns() - began < 3 * NS_PER_S);
	v = world_await(&w, k, CONTAINER_EXITED);
	assert_int_equal(v.exit_code, 137);
	assert_string_equal(v.reason, "MonitorDied");
	assert_int_equal(world_pod_state(&w, pod), POD_STOPPED);
	fakes.monitor_mute = false;
	world_remove_pod(&w, pod);
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
	pod = world_run(&w, &config);
	k = world_create(&w, pod, "c");
	world_start_container(&w, k);
	fake_monitors_die();
	v = world_await(&w, k, CONTAINER_EXITED);
	assert_int_equal(v.exit_code, 137);
	assert_string_equal(v.reason, "MonitorDied");
	assert_int_equal(world_pod_state(&w, pod), POD_STOPPED);
	assert_int_equal(fakes.dels, 0);
	world_remove_pod(&w, pod);
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
	pod = world_run(&w, &config);
	k = world_create(&w, pod, "c");
	call_begin(&c, 0);
	assert_ok(container_update(w.pods, &c, POD_OWNER_KUBELET, k, &change, NULL, &e), e);
	assert_ok(container_resources(w.pods, &c.arena, POD_OWNER_KUBELET, k, &now, &e), e);
	assert_int_equal(now.memory_bytes, 123456789);
	assert_ok(fs_read_file(&c.arena, AT_FDCWD,
			       arena_printf(&c.arena, "%s/containers/%s/config.json", w.root, k), 1 << 20, &text, &e), e);
	assert_non_null(strstr(text.p, "123456789"));
	world_start_container(&w, k);
	assert_ok(container_resources(w.pods, &c.arena, POD_OWNER_KUBELET, k, &now, &e), e);
	assert_int_equal(now.memory_bytes, 4096); /* the kernel's */
	fake_container_exits(k, 0, false);
	(void)world_await(&w, k, CONTAINER_EXITED);
	assert_err(container_update(w.pods, &c, POD_OWNER_KUBELET, k, &change, NULL, &e), e, ERR_STATE, "exited");
	world_remove_pod(&w, pod);
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
	pod = world_run(&w, &config);
	k = world_create(&w, pod, "c");
	call_begin(&c, 0);
	assert_err(container_exec_sync(w.pods, &c, POD_OWNER_KUBELET, k, argv, 0, &r, &e), e, ERR_STATE, "not running");
	world_start_container(&w, k);
	assert_ok(container_exec_sync(w.pods, &c, POD_OWNER_KUBELET, k, argv, 0, &r, &e), e);
	assert_int_equal(r.exit_code, 3);
	assert_err(container_exec_sync(w.pods, &c, POD_OWNER_KUBELET, k, slow, NS_PER_S, &r, &e), e, ERR_TIMEOUT, "sleep");
	world_remove_pod(&w, pod);
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
	pod = world_run(&w, &config);
	k = world_create(&w, pod, "c");
	world_start_container(&w, k);
	fake_container_exits(k, 0, false);
	call_begin(&c, clock_mono_ns() + 5 * NS_PER_S);
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		assert_ok(pod_event_wait(w.pods, &c, POD_OWNER_KUBELET, &from, &ev, &e), e);
		assert_int_equal(ev.kind, want[i]);
		assert_string_equal(ev.container_id, i < 2 ? pod : k);
	}
	c.deadline_ns = clock_mono_ns() + 10 * NS_PER_MS;
	assert_err(pod_event_wait(w.pods, &c, POD_OWNER_USER, &other, &ev, &e), e, ERR_TIMEOUT, "deadline");
	world_remove_pod(&w, pod);
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
	pod = world_run(&w, &config);
	k = world_create(&w, pod, "c");
	world_start_container(&w, k);
	assert_ok(container_stats(w.pods, &a, POD_OWNER_KUBELET, k, &s, &e), e);
	assert_int_equal(s.v[0].usage.memory_working_set_bytes, 60);
	assert_int_equal(s.v[0].usage.memory_available_bytes, 940);
	assert_int_equal(s.v[0].layer_bytes, 4096);
	container_stats_release(&s);
	world_remove_pod(&w, pod);
	world_end(&w);
}

TEST(a_pod_without_a_cgroup_parent_uses_what_its_containers_use)
{
	const struct pod_config config = pod_named("p");
	auto_arena a = { 0 };
	struct pod_stats_list s = { 0 };
	struct world w;
	const char *pod;
	struct err e;

	world_begin(&w);
	pod = world_run(&w, &config);
	world_start_container(&w, world_create(&w, pod, "c"));
	world_start_container(&w, world_create(&w, pod, "d"));
	assert_ok(pod_stats_list(w.pods, &a, POD_OWNER_KUBELET, NULL, &s, &e), e);
	assert_int_equal(s.n, 1);
	assert_true(s.v[0].usage.has_memory);
	assert_int_equal(s.v[0].usage.memory_working_set_bytes, 120);
	assert_int_equal(s.v[0].usage.cpu_ns, 10);
	pod_stats_release(&s);
	world_remove_pod(&w, pod);
	world_end(&w);
}
