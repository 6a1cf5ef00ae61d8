/* src/net with the distribution's CNI plugins. The whole program runs in a network and a mount namespace
 * of its own, which stand for the host: bridges, addresses and iptables rules end with it. */
#include "test.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/proc.h"
#include "net/net.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define RESULT "{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"10.1.2.3/24\"}]}\n"

static void lo_up(void)
{
	struct ifreq r = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_int_equal(ioctl(s, SIOCSIFFLAGS, &r), 0);
	(void)close(s);
}

/* This program is also the plugin that costs nothing: it tells our own share of the time. */
__attribute__((constructor(101))) static void be_the_plugin(void)
{
	if (!getenv("CNI_COMMAND"))
		return;
	if (strcmp(getenv("CNI_COMMAND"), "ADD") == 0)
		(void)!write(1, RESULT, sizeof(RESULT) - 1);
	_exit(0);
}

struct world {
	struct arena a;
	char dir[64], *bin_dirs[4];
	struct catalog *catalog;
	struct net *net;
};

static void host_enter(void)
{
	static bool done;

	if (done)
		return;
	done = true;
	if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0)
		fail_msg("this test needs root: unshare: %s", strerror(errno));
	assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	/* what plugins leave there: iptables' lock, host-local's last address */
	assert_int_equal(mount("tmpfs", "/run", "tmpfs", 0, NULL), 0);
	assert_int_equal(mount("tmpfs", "/var/lib", "tmpfs", 0, NULL), 0);
	lo_up();
}

/* The text with "@DIR@" replaced. */
static char *in_dir(struct world *w, const char *conf)
{
	const char *mark = strstr(conf, "@DIR@");

	return mark ? arena_printf(&w->a, "%.*s%s%s", (int)(mark - conf), conf, w->dir, mark + 5) :
		      arena_strdup(&w->a, conf);
}

static struct world *world_new(const char *conf)
{
	static struct world w;
	struct net_settings s = { 0 };
	struct err e;

	host_enter();
	w = (struct world){ .bin_dirs = { (char *)"/opt/cni/bin", (char *)"/usr/lib/cni", NULL, NULL } };
	(void)snprintf(w.dir, sizeof(w.dir), "/tmp/knarr-test-%d-XXXXXX", (int)getpid());
	assert_non_null(mkdtemp(w.dir));
	w.bin_dirs[2] = w.dir;
	assert_ok(catalog_open(path_join(&w.a, w.dir, "catalog.db"), &w.catalog, &e), e);
	s.conf_dir = path_join(&w.a, w.dir, "conf");
	s.bin_dirs = w.bin_dirs;
	s.default_conflist = in_dir(&w, conf);
	s.plugin_timeout_ns = 30 * NS_PER_S;
	assert_ok(net_open(&s, w.catalog, &w.net, &e), e);
	return &w;
}

static void world_end(struct world *w)
{
	struct err e;

	net_close(w->net);
	catalog_close(w->catalog);
	assert_ok(fs_remove_tree(AT_FDCWD, w->dir, &e), e);
	arena_free(&w->a);
}

static char *pod_netns_new(struct world *w, const char *name)
{
	char *path = path_join(&w->a, w->dir, name), byte;
	int made[2], hold[2], fd;
	pid_t child;

	assert_int_equal(pipe2(made, O_CLOEXEC), 0);
	assert_int_equal(pipe2(hold, O_CLOEXEC), 0);
	child = fork();
	if (child == 0) {
		(void)close(hold[1]);
		(void)!write(made[1], unshare(CLONE_NEWNET) == 0 ? "y" : "n", 1);
		(void)!read(hold[0], &byte, 1);
		_exit(0);
	}
	assert_int_equal(read(made[0], &byte, 1), 1);
	assert_int_equal(byte, 'y');
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	(void)close(fd);
	assert_int_equal(mount(arena_printf(&w->a, "/proc/%d/ns/net", child), path, NULL, MS_BIND, NULL), 0);
	(void)close(made[0]);
	(void)close(made[1]);
	(void)close(hold[0]);
	(void)close(hold[1]);
	assert_int_equal(waitpid(child, NULL, 0), child);
	return path;
}

static void pod_netns_end(const char *path)
{
	assert_int_equal(umount2(path, MNT_DETACH), 0);
	assert_int_equal(unlink(path), 0);
}

/* In the pod: a server on port 80 that says "hello" to `n` clients. */
static pid_t pod_serve(const char *netns, int n)
{
	int ready[2];
	char byte;
	pid_t child;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	child = fork();
	if (child == 0) {
		struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons(80) };
		int ns = open(netns, O_RDONLY | O_CLOEXEC), s;

		if (setns(ns, CLONE_NEWNET) < 0)
			_exit(1);
		s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (bind(s, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(s, 5) < 0)
			_exit(2);
		(void)!write(ready[1], "y", 1);
		while (n--) {
			int c = accept4(s, NULL, NULL, SOCK_CLOEXEC);

			(void)!write(c, "hello", 5);
			(void)close(c);
		}
		_exit(0);
	}
	(void)close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	(void)close(ready[0]);
	return child;
}

static bool host_hears_hello(const char *ip, uint16_t port)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct timeval limit = { .tv_sec = 5 };
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char said[5] = "";
	bool ok;

	assert_int_equal(inet_pton(AF_INET, ip, &addr.sin_addr), 1);
	(void)setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	(void)setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	ok = connect(s, (struct sockaddr *)&addr, sizeof(addr)) == 0 && recv(s, said, 5, MSG_WAITALL) == 5 &&
	     memcmp(said, "hello", 5) == 0;
	(void)close(s);
	return ok;
}

static bool host_has_link(const char *begins)
{
	auto_arena a = { 0 };
	struct str text;
	struct err e;

	assert_ok(fs_read_file(&a, AT_FDCWD, "/proc/thread-self/net/dev", 1 << 20, &text, &e), e);
	return strstr(text.p, begins) != NULL;
}

static size_t leases(struct world *w, const char *network)
{
	char *path = arena_printf(&w->a, "%s/ipam/%s", w->dir, network);
	DIR *d = opendir(path);
	size_t n = 0;

	for (struct dirent *f; d && (f = readdir(d)); )
		n += *f->d_name >= '0' && *f->d_name <= '9';
	if (d)
		(void)closedir(d);
	return n;
}

static int add(struct world *w, struct net_request *r, struct net_result *out, struct err *e)
{
	auto_call c = { 0 };
	struct net_result got = { 0 };

	call_begin(&c, 0);
	if (net_add(w->net, &c, r, &got, e) < 0)
		return -1;
	out->ips = strv_dup(&w->a, got.ips);
	out->mac = arena_strdup(&w->a, got.mac);
	return 0;
}

static int del(struct world *w, const struct net_request *r, struct err *e)
{
	auto_call c = { 0 };

	call_begin(&c, 0);
	return net_del(w->net, &c, r, e);
}

#define BRIDGE "{\"type\":\"bridge\",\"bridge\":\"kntest0\",\"isGateway\":true,\"ipam\":{\"type\":\"host-local\"," \
	"\"dataDir\":\"@DIR@/ipam\",\"ranges\":[[{\"subnet\":\"10.213.0.0/24\"}]],\"routes\":[{\"dst\":\"0.0.0.0/0\"}]}}"
#define CHAIN "{\"cniVersion\":\"1.0.0\",\"name\":\"kntest\",\"plugins\":[" BRIDGE "," \
	"{\"type\":\"portmap\",\"snat\":true,\"capabilities\":{\"portMappings\":true}}," \
	"{\"type\":\"bandwidth\",\"capabilities\":{\"bandwidth\":true}}]}"

TEST(a_pod_is_reached_by_address_and_by_host_port)
{
	struct world *w = world_new(CHAIN);
	const struct net_port port = { "tcp", 80, 18080, "" };
	struct net_request r = { .pod_id = "kntest-pod-1", .netns_path = pod_netns_new(w, "ns1"), .namespace_ = "d",
				 .name = "n", .uid = "u", .ports = &port, .nports = 1, .ingress_bits = 100000000,
				 .egress_bits = 100000000 };
	struct net_result got = { 0 };
	struct err e;
	pid_t server;

	assert_ok(net_ready(w->net, &e), e);
	assert_ok(add(w, &r, &got, &e), e);
	assert_string_equal(got.ips[0], "10.213.0.2");
	assert_int_equal(strlen(got.mac), 17);
	assert_true(host_has_link("bwp"));
	assert_int_equal(leases(w, "kntest"), 1);
	server = pod_serve(r.netns_path, 2);
	assert_true(host_hears_hello(got.ips[0], 80));
	assert_true(host_hears_hello("10.213.0.1", 18080));
	assert_int_equal(waitpid(server, NULL, 0), server);
	assert_ok(del(w, &r, &e), e);
	assert_false(host_hears_hello("10.213.0.1", 18080));
	assert_false(host_has_link("bwp"));
	assert_false(host_has_link("veth"));
	assert_int_equal(leases(w, "kntest"), 0);
	assert_ok(del(w, &r, &e), e);
	pod_netns_end(r.netns_path);
	world_end(w);
}

TEST(the_address_is_given_back_when_the_namespace_is_gone)
{
	struct world *w = world_new(CHAIN);
	struct net_request r = { .pod_id = "kntest-pod-2", .netns_path = pod_netns_new(w, "ns2"), .namespace_ = "d",
				 .name = "n", .uid = "u" };
	struct net_result got = { 0 };
	struct err e;

	assert_ok(add(w, &r, &got, &e), e);
	assert_int_equal(leases(w, "kntest"), 1);
	pod_netns_end(r.netns_path);
	assert_ok(del(w, &r, &e), e);
	assert_int_equal(leases(w, "kntest"), 0);
	world_end(w);
}

TEST(a_failed_add_gives_the_address_back)
{
	struct world *w = world_new("{\"cniVersion\":\"1.0.0\",\"name\":\"kntest\",\"plugins\":[" BRIDGE ","
				    "{\"type\":\"tuning\",\"sysctl\":{\"net.ipv4.no_such_key\":\"1\"}}]}");
	struct net_request r = { .pod_id = "kntest-pod-3", .netns_path = pod_netns_new(w, "ns3"), .namespace_ = "d",
				 .name = "n", .uid = "u" };
	struct net_result got = { 0 };
	struct err e;

	assert_err(add(w, &r, &got, &e), e, ERR_SYSTEM, "CNI plugin tuning, ADD of network kntest");
	assert_int_equal(leases(w, "kntest"), 0);
	assert_false(host_has_link("veth"));
	pod_netns_end(r.netns_path);
	world_end(w);
}

TEST(the_built_in_default_works)
{
	auto_arena a = { 0 };
	struct world *w = world_new("{\"cniVersion\":\"1.0.0\",\"name\":\"unused\",\"type\":\"x\"}");
	struct net_settings s = { path_join(&w->a, w->dir, "conf"), w->bin_dirs,
				  net_default_conflist(&a, "kntest1", "10.214.0.0/24"), 30 * NS_PER_S };
	struct net_request r = { .pod_id = "kntest-pod-4", .namespace_ = "d", .name = "n", .uid = "u" };
	struct net_result got = { 0 };
	struct err e;
	pid_t server;

	net_close(w->net);
	assert_ok(net_open(&s, w->catalog, &w->net, &e), e);
	r.netns_path = pod_netns_new(w, "ns4");
	assert_ok(add(w, &r, &got, &e), e);
	server = pod_serve(r.netns_path, 1);
	assert_true(host_hears_hello(got.ips[0], 80));
	assert_int_equal(waitpid(server, NULL, 0), server);
	assert_ok(del(w, &r, &e), e);
	pod_netns_end(r.netns_path);
	world_end(w);
}

enum { ROUNDS = 100 };

static int compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static double median_ms(int64_t *ns)
{
	qsort(ns, ROUNDS, sizeof(*ns), compare);
	return (double)ns[ROUNDS / 2] / 1e6;
}

TEST(our_own_share_is_small)
{
	struct world *w = world_new("{\"cniVersion\":\"1.0.0\",\"name\":\"nothing\",\"type\":\"nothing\"}");
	struct net_request r = { .pod_id = "kntest-pod-5", .netns_path = "/proc/self/ns/net", .namespace_ = "d",
				 .name = "n", .uid = "u" };
	char *env[] = { (char *)"CNI_COMMAND=ADD", NULL }, *argv[] = { (char *)"nothing", NULL };
	int64_t adds[ROUNDS], dels[ROUNDS], alone[ROUNDS];
	struct net_result got = { 0 };
	struct err e;

	char *self = realpath("/proc/self/exe", NULL);
	assert_int_equal(symlink(self, path_join(&w->a, w->dir, "nothing")), 0);
	for (int i = 0; i < ROUNDS; i++) {
		struct proc_spec spec = PROC_SPEC_INIT;
		auto_buf out = BUF(65536), err_out = BUF(65536);
		struct proc_output end;
		auto_call c = { 0 };
		int64_t t = clock_mono_ns();

		call_begin(&c, 0);
		spec.file = self;
		spec.argv = argv;
		spec.envp = env;
		assert_ok(proc_run(&c, &spec, STR("{}"), &out, &err_out, &end, &e), e);
		alone[i] = clock_mono_ns() - t;
		t = clock_mono_ns();
		assert_ok(add(w, &r, &got, &e), e);
		adds[i] = clock_mono_ns() - t;
		t = clock_mono_ns();
		assert_ok(del(w, &r, &e), e);
		dels[i] = clock_mono_ns() - t;
	}
	free(self);
	print_message("one plugin alone %.3f ms, net_add with it %.3f ms, net_del %.3f ms\n", median_ms(alone),
		      median_ms(adds), median_ms(dels));
	assert_true(median_ms(adds) < 1.5 * median_ms(alone) + 5);
	world_end(w);
}
