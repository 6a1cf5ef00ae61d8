/* The fake plugins are shell scripts: each appends a line to DIR/calls and then does its worst. */
#include "test.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "net/net.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct world {
	struct arena a;
	char dir[64], *conf_dir, *bin_dirs[2], *fallback;
	struct catalog *catalog;
	struct net *net;
};

static void world_open(struct world *w)
{
	struct net_settings s = { w->conf_dir, w->bin_dirs, w->fallback, true, NS_PER_S };
	struct err e;

	assert_ok(catalog_open(path_join(&w->a, w->dir, "catalog.db"), &w->catalog, &e), e);
	assert_ok(net_open(&s, w->catalog, &w->net, &e), e);
}

static void world_close(struct world *w)
{
	net_close(w->net);
	catalog_close(w->catalog);
}

static void file(struct world *w, const char *name, const char *text, unsigned mode)
{
	struct err e;

	assert_ok(fs_replace(AT_FDCWD, path_join(&w->a, w->dir, name), text, strlen(text), mode, 0, &e), e);
}

static void plugin(struct world *w, const char *name, const char *script)
{
	file(w, arena_printf(&w->a, "bin/%s", name),
	     arena_printf(&w->a, "#!/bin/sh\nD=%s\nIN=$(cat)\necho \"%s $CNI_COMMAND $CNI_NETNS\" >>$D/calls\n"
			  "echo \"$IN\" >$D/stdin.%s.$CNI_COMMAND\n%s\n", w->dir, name, name, script), 0700);
}

#define RESULT "{\"cniVersion\":\"1.0.0\",\"interfaces\":[{\"name\":\"eth0\",\"mac\":\"aa:bb:cc:dd:ee:ff\"," \
	"\"sandbox\":\"/n\"}],\"ips\":[{\"address\":\"10.1.2.3/24\",\"interface\":0}]}"
#define GOOD "[ $CNI_COMMAND = ADD ] && echo '" RESULT "'; exit 0"
#define NETNS "/proc/self/ns/net"

static struct world *world_new(const char *conf)
{
	static struct world w;
	struct err e;

	w = (struct world){ 0 };
	log_configure(LOG_ERROR, LOG_TEXT, 2);
	(void)snprintf(w.dir, sizeof(w.dir), "/tmp/knarr-test-%d-XXXXXX", (int)getpid());
	assert_non_null(mkdtemp(w.dir));
	w.conf_dir = path_join(&w.a, w.dir, "conf");
	w.bin_dirs[0] = path_join(&w.a, w.dir, "bin");
	assert_ok(fs_mkdirs(AT_FDCWD, w.bin_dirs[0], 0700, &e), e);
	assert_ok(fs_mkdirs(AT_FDCWD, w.conf_dir, 0700, &e), e);
	if (conf)
		file(&w, "conf/10-net.conflist", conf, 0600);
	world_open(&w);
	return &w;
}

static void world_end(struct world *w)
{
	struct err e;

	world_close(w);
	assert_ok(fs_remove_tree(AT_FDCWD, w->dir, &e), e);
	arena_free(&w->a);
}

static const char *text_of(struct world *w, const char *name)
{
	struct str s;
	struct err e;

	return fs_read_file(&w->a, AT_FDCWD, path_join(&w->a, w->dir, name), 1 << 20, &s, &e) < 0 ? "" : s.p;
}

static const struct net_request request = {
	.pod_id = "pod1", .netns_path = NETNS, .namespace_ = "ns", .name = "web", .uid = "u-1",
};

static int add(struct world *w, struct net_result *out, struct err *e)
{
	struct call c;
	struct net_result r;
	int rc;

	call_begin(&c, 0);
	rc = net_add(w->net, &c, &request, &r, e);
	if (rc == 0 && out)
		*out = (struct net_result){ strv_dup(&w->a, r.ips), arena_strdup(&w->a, r.interface),
					    arena_strdup(&w->a, r.mac), { 0 } };
	call_end(&c);
	return rc;
}

static int del(struct world *w, const char *netns, struct err *e)
{
	struct net_request r = request;
	auto_call c = { 0 };

	call_begin(&c, 0);
	r.netns_path = netns;
	return net_del(w->net, &c, &r, e);
}

static size_t recorded(struct world *w)
{
	char **ids;
	struct err e;

	assert_ok(net_pods(w->net, &w->a, &ids, &e), e);
	return strv_len(ids);
}

#define TWO "{\"cniVersion\":\"1.0.0\",\"name\":\"n\",\"plugins\":[{\"type\":\"one\"},{\"type\":\"two\"," \
	"\"capabilities\":{\"portMappings\":true}}]}"

TEST(plugins_run_in_order_and_are_undone_in_reverse)
{
	struct world *w = world_new(TWO);
	struct net_result r;
	struct err e;

	plugin(w, "one", GOOD);
	plugin(w, "two", GOOD);
	assert_ok(net_ready(w->net, &e), e);
	assert_ok(add(w, &r, &e), e);
	assert_string_equal(r.ips[0], "10.1.2.3");
	assert_string_equal(r.mac, "aa:bb:cc:dd:ee:ff");
	assert_non_null(strstr(text_of(w, "stdin.two.ADD"), "\"prevResult\":{\"cniVersion\":\"1.0.0\""));
	assert_null(strstr(text_of(w, "stdin.one.ADD"), "prevResult"));
	assert_ok(del(w, NETNS, &e), e);
	assert_string_equal(text_of(w, "calls"), "one ADD " NETNS "\ntwo ADD " NETNS "\ntwo DEL " NETNS "\none DEL " NETNS "\n");
	assert_non_null(strstr(text_of(w, "stdin.one.DEL"), "prevResult"));
	assert_int_equal(recorded(w), 0);
	assert_ok(del(w, NETNS, &e), e);
	world_end(w);
}

#define RESULT_1_1 "{\"cniVersion\":\"1.1.0\",\"interfaces\":[{\"name\":\"eth0\",\"sandbox\":\"/n\"}]," \
	"\"ips\":[{\"address\":\"10.1.2.3/24\",\"interface\":0}]}"
#define GOOD_1_1 "[ $CNI_COMMAND = ADD ] && echo '" RESULT_1_1 "'; exit 0"
#define REFUSE(command) "[ $CNI_COMMAND = " command " ] && { echo '{\"code\":50,\"msg\":\"the agent is down\"}'; exit 1; }; " GOOD_1_1

static int status(struct world *w, struct err *e)
{
	auto_call c = { 0 };

	call_begin(&c, 0);
	return net_status(w->net, &c, NET_CONFIGURED, e);
}

TEST(plugins_of_cni_1_1_say_whether_they_can_work)
{
	struct world *w = world_new("{\"cniVersion\":\"1.1.0\",\"name\":\"n\",\"plugins\":[{\"type\":\"one\"},{\"type\":\"two\"}]}");
	struct err e;

	plugin(w, "one", GOOD_1_1);
	plugin(w, "two", REFUSE("STATUS"));
	assert_err(status(w, &e), e, ERR_UNAVAILABLE, "CNI plugin two, STATUS of network n: the agent is down (code 50)");
	assert_err(status(w, &e), e, ERR_UNAVAILABLE, "the agent is down"); /* not asked again at once */
	assert_string_equal(text_of(w, "calls"), "one STATUS \ntwo STATUS \n");
	/* Another configuration is asked about at once. */
	plugin(w, "two", GOOD_1_1);
	file(w, "conf/10-net.conflist", "{\"cniVersion\":\"1.1.0\",\"name\":\"m\",\"plugins\":[{\"type\":\"two\"}]}", 0600);
	assert_ok(status(w, &e), e);
	assert_ok(status(w, &e), e);
	assert_string_equal(text_of(w, "calls"), "one STATUS \ntwo STATUS \ntwo STATUS \n");
	file(w, "conf/10-net.conflist", TWO, 0600);
	assert_ok(status(w, &e), e); /* older plugins are not asked */
	assert_string_equal(text_of(w, "calls"), "one STATUS \ntwo STATUS \ntwo STATUS \n");
	world_end(w);
}

TEST(a_pods_network_is_checked_by_its_plugins)
{
	struct world *w = world_new(TWO);
	auto_call c = { 0 };
	struct err e;

	call_begin(&c, 0);
	plugin(w, "one", GOOD);
	plugin(w, "two", GOOD);
	assert_ok(net_check(w->net, &c, "pod1", NETNS, &e), e); /* none there */
	assert_ok(add(w, NULL, &e), e);
	assert_ok(net_check(w->net, &c, "pod1", NETNS, &e), e);
	assert_non_null(strstr(text_of(w, "calls"), "one CHECK " NETNS "\ntwo CHECK " NETNS "\n"));
	assert_non_null(strstr(text_of(w, "stdin.two.CHECK"), "\"prevResult\":{\"cniVersion\":\"1.0.0\""));
	plugin(w, "two", REFUSE("CHECK"));
	assert_err(net_check(w->net, &c, "pod1", NETNS, &e), e, ERR_UNAVAILABLE, "CHECK of network n: the agent is down");
	assert_ok(del(w, NETNS, &e), e);
	world_end(w);
}

static int collect(struct world *w, struct err *e)
{
	auto_call c = { 0 };

	call_begin(&c, 0);
	return net_collect(w->net, &c, e);
}

TEST(plugins_are_told_whom_there_is)
{
	struct world *w = world_new("{\"cniVersion\":\"1.1.0\",\"name\":\"n\",\"plugins\":[{\"type\":\"one\"},{\"type\":\"two\"}]}");
	struct err e;

	plugin(w, "one", GOOD_1_1);
	plugin(w, "two", GOOD_1_1);
	assert_ok(add(w, NULL, &e), e);
	assert_ok(collect(w, &e), e);
	assert_non_null(strstr(text_of(w, "stdin.two.GC"),
			       "\"cni.dev/valid-attachments\":[{\"containerID\":\"pod1\",\"ifname\":\"eth0\"}]"));
	plugin(w, "one", REFUSE("GC"));
	assert_err(collect(w, &e), e, ERR_UNAVAILABLE, "CNI plugin one, GC of network n");
	assert_true(ends_with(text_of(w, "calls"), "one GC \ntwo GC \n")); /* the others too */
	assert_ok(del(w, NETNS, &e), e);
	assert_ok(fs_remove_file(AT_FDCWD, path_join(&w->a, w->dir, "calls"), &e), e);
	file(w, "conf/10-net.conflist", "{\"cniVersion\":\"1.1.0\",\"name\":\"n\",\"disableGC\":true,\"plugins\":[{\"type\":\"one\"}]}", 0600);
	assert_ok(collect(w, &e), e);
	assert_string_equal(text_of(w, "calls"), "");
	world_end(w);
}

TEST(plugins_see_the_environment_that_kubernetes_plugins_expect)
{
	struct world *w = world_new("{\"cniVersion\":\"0.4.0\",\"name\":\"n\",\"type\":\"one\"}");
	struct err e;

	plugin(w, "one", "env | grep ^CNI_ | sort >$D/env; " GOOD);
	assert_ok(add(w, NULL, &e), e);
	assert_string_equal(text_of(w, "env"), arena_printf(&w->a,
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=pod1;"
		"K8S_POD_UID=u-1\nCNI_COMMAND=ADD\nCNI_CONTAINERID=pod1\nCNI_IFNAME=eth0\nCNI_NETNS=" NETNS "\nCNI_PATH=%s\n",
		w->bin_dirs[0]));
	world_end(w);
}

TEST(del_gets_the_configuration_of_its_add_after_a_restart)
{
	struct world *w = world_new("{\"cniVersion\":\"1.0.0\",\"name\":\"n\",\"type\":\"one\",\"mine\":\"first\"}");
	auto_arena a = { 0 };
	struct net_result r;
	struct err e;

	plugin(w, "one", GOOD);
	assert_ok(add(w, NULL, &e), e);
	file(w, "conf/10-net.conflist", "{\"cniVersion\":\"1.0.0\",\"name\":\"other\",\"type\":\"two\"}", 0600);
	world_close(w);
	world_open(w);
	assert_ok(net_result_of(w->net, &a, "pod1", &r, &e), e);
	assert_string_equal(r.ips[0], "10.1.2.3");
	assert_ok(del(w, NULL, &e), e);
	assert_non_null(strstr(text_of(w, "stdin.one.DEL"), "\"mine\":\"first\""));
	assert_non_null(strstr(text_of(w, "calls"), "one DEL \n"));
	assert_err(net_result_of(w->net, &a, "pod1", &r, &e), e, ERR_NOT_FOUND, "pod1");
	world_end(w);
}

/* The second plugin fails as the script says; all must be undone and nothing stay recorded. */
static void assert_add_fails(const char *script, enum err_kind kind, const char *text)
{
	struct world *w = world_new(TWO);
	struct err e;

	plugin(w, "one", GOOD);
	plugin(w, "two", arena_printf(&w->a, "[ $CNI_COMMAND = DEL ] && exit 0\n%s", script));
	assert_err(add(w, NULL, &e), e, kind, text);
	assert_non_null(strstr(e.msg, "CNI plugin two, ADD of network n"));
	assert_non_null(strstr(text_of(w, "calls"), "two DEL " NETNS "\none DEL " NETNS "\n"));
	assert_int_equal(recorded(w), 0);
	world_end(w);
}

TEST(a_plugins_error_is_told_whole)
{
	assert_add_fails("echo '{\"code\":7,\"msg\":\"no range\",\"details\":\"in set 0\"}'; exit 1", ERR_SYSTEM,
			 "no range: in set 0 (code 7)");
}

TEST(a_crash_is_told)
{
	assert_add_fails("echo oh >&2; kill -SEGV $$", ERR_SYSTEM, "killed by signal 11 (SEGV): oh");
}

TEST(garbage_is_no_result)
{
	assert_add_fails("printf '\\001\\377not json'", ERR_SYSTEM, "printed no CNI result");
	assert_add_fails("exit 0", ERR_SYSTEM, "printed no CNI result");
}

TEST(an_error_without_json_tells_what_was_said)
{
	assert_add_fails("printf 'panic:\\nbad' >&2; exit 3", ERR_SYSTEM, "exit code 3 and said: panic: bad");
}

TEST(endless_output_is_cut)
{
	assert_add_fails("head -c 1100000 /dev/zero", ERR_SYSTEM, "printed more than 1024 KiB");
}

TEST(a_plugin_that_hangs_is_killed_with_its_children)
{
	int64_t before = clock_mono_ns();

	assert_add_fails("sleep 31.4159 & sleep 31.4159", ERR_TIMEOUT, "did not end within 1 s");
	assert_true(clock_mono_ns() - before < 5 * NS_PER_S);
	assert_int_not_equal(system("pgrep -f 'sleep 31[.]4159' >/dev/null"), 0);
}

TEST(a_network_without_address_is_an_error)
{
	struct world *w = world_new(TWO);
	struct err e;

	plugin(w, "one", GOOD);
	plugin(w, "two", "echo '{\"cniVersion\":\"1.0.0\"}'");
	assert_err(add(w, NULL, &e), e, ERR_SYSTEM, "network n gave the pod no address");
	assert_int_equal(recorded(w), 0);
	world_end(w);
}

TEST(try_again_later_is_tried_again)
{
	struct world *w = world_new(TWO);
	struct err e;

	plugin(w, "one", GOOD);
	plugin(w, "two", "[ $(grep -c 'two ADD' $D/calls) = 1 ] && { echo '{\"code\":11,\"msg\":\"later\"}'; exit 1; }; " GOOD);
	assert_ok(add(w, NULL, &e), e);
	world_end(w);
}

TEST(a_failed_del_stays_recorded_until_it_succeeds)
{
	struct world *w = world_new(TWO);
	struct err e;

	plugin(w, "one", GOOD);
	plugin(w, "two", "[ $CNI_COMMAND = DEL ] && exit 9; " GOOD);
	assert_ok(add(w, NULL, &e), e);
	assert_err(add(w, NULL, &e), e, ERR_EXISTS, "pod1");
	assert_err(del(w, NETNS, &e), e, ERR_SYSTEM, "CNI plugin two, DEL of network n: it ended with exit code 9");
	assert_null(strstr(text_of(w, "calls"), "one DEL"));
	assert_int_equal(recorded(w), 1);
	plugin(w, "two", GOOD);
	assert_ok(del(w, NETNS, &e), e);
	assert_int_equal(recorded(w), 0);
	world_end(w);
}

TEST(a_missing_plugin_is_named_with_the_folders)
{
	struct world *w = world_new(TWO);
	struct err e;

	plugin(w, "one", GOOD);
	assert_err(net_ready(w->net, &e), e, ERR_NOT_FOUND, "CNI plugin two is not installed");
	assert_err(add(w, NULL, &e), e, ERR_NOT_FOUND, w->bin_dirs[0]);
	assert_string_equal(text_of(w, "calls"), "");
	assert_int_equal(recorded(w), 0);
	world_end(w);
}

TEST(the_folder_is_followed)
{
	struct world *w = world_new(NULL);
	struct err e;

	plugin(w, "one", GOOD);
	assert_err(net_ready(w->net, &e), e, ERR_UNAVAILABLE, "no CNI configuration in");
	file(w, "conf/00-bad.conf", "{", 0600);
	assert_err(net_ready(w->net, &e), e, ERR_UNAVAILABLE, "00-bad.conf");
	file(w, "conf/50.conf", "{\"cniVersion\":\"1.0.0\",\"name\":\"n\",\"type\":\"one\"}", 0600);
	assert_ok(net_ready(w->net, &e), e);
	file(w, "conf/50.conf", "{\"cniVersion\":\"1.0.0\",\"name\":\"n\",\"type\":\"two\"}", 0600);
	assert_err(net_ready(w->net, &e), e, ERR_NOT_FOUND, "plugin two");
	assert_ok(fs_remove_tree(AT_FDCWD, w->conf_dir, &e), e);
	assert_err(net_ready(w->net, &e), e, ERR_UNAVAILABLE, "no CNI configuration in");
	world_end(w);
}

TEST(the_default_is_used_where_nothing_is_configured)
{
	struct world *w = world_new(NULL);
	struct err e;

	plugin(w, "bridge", GOOD);
	plugin(w, "portmap", GOOD);
	world_close(w);
	w->fallback = net_default_conflist(&w->a, "knarr0", "10.88.0.0/16");
	world_open(w);
	assert_ok(net_ready(w->net, &e), e);
	assert_err(net_configured(w->net, &e), e, ERR_UNAVAILABLE, "no CNI configuration in");
	assert_ok(add(w, NULL, &e), e);
	assert_non_null(strstr(text_of(w, "stdin.bridge.ADD"), "\"subnet\":\"10.88.0.0/16\""));
	world_end(w);
}

TEST(cancelling_ends_the_plugin_and_undoes)
{
	struct world *w = world_new(TWO);
	auto_call c = { 0 };
	struct net_result r;
	struct err e;

	plugin(w, "one", GOOD);
	plugin(w, "two", "[ $CNI_COMMAND = DEL ] || sleep 27.1828");
	call_begin(&c, clock_mono_ns() + 300 * NS_PER_MS);
	assert_err(net_add(w->net, &c, &request, &r, &e), e, ERR_TIMEOUT, "CNI plugin two");
	assert_non_null(strstr(text_of(w, "calls"), "one DEL"));
	assert_int_equal(recorded(w), 0);
	assert_int_not_equal(system("pgrep -f 'sleep 27[.]1828' >/dev/null"), 0);
	world_end(w);
}

/* Killed while a plugin and its child run: the plugin dies at once, its child before DEL. */
TEST(what_a_killed_daemon_left_running_is_ended)
{
	struct world *w = world_new(TWO);
	struct err e;
	pid_t child;
	int status;

	plugin(w, "one", GOOD);
	plugin(w, "two", "[ $CNI_COMMAND = DEL ] && exit 0; setsid sleep 16.1803 & echo x >$D/runs; sleep 16.1803");
	world_close(w);
	child = fork();
	if (child == 0) {
		world_open(w);
		(void)add(w, NULL, &e);
		_exit(1);
	}
	for (int i = 0; i < 500 && !*text_of(w, "runs"); i++)
		(void)usleep(10000);
	(void)usleep(50000);
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	world_open(w);
	assert_int_not_equal(system("pgrep -f 'sleep 16[.]1803' >/dev/null"), 0);
	assert_int_equal(recorded(w), 1);
	assert_ok(del(w, NETNS, &e), e);
	assert_int_equal(recorded(w), 0);
	world_end(w);
}

TEST(a_name_cannot_smuggle_arguments)
{
	struct world *w = world_new(TWO);
	struct net_request r = request;
	struct net_result out;
	auto_call c = { 0 };
	struct err e;

	plugin(w, "one", GOOD);
	plugin(w, "two", GOOD);
	r.name = "x;K8S_POD_UID=0";
	call_begin(&c, 0);
	assert_err(net_add(w->net, &c, &r, &out, &e), e, ERR_INVALID, "no ';'");
	world_end(w);
}
