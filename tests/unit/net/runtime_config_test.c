#include "test.h"

#include "net/runtime_config.h"

static void assert_prints(const struct net_request *r, const char *want)
{
	auto_buf b = BUF(65536);
	struct err e;

	assert_ok(runtime_config_print(&b, r, &e), e);
	assert_string_equal(buf_text(&b), want);
}

TEST(nothing_asked_is_an_empty_object)
{
	assert_prints(&(struct net_request){ .pod_id = "p" }, "{}");
}

TEST(ports_without_a_host_port_are_not_mapped)
{
	const struct net_port ports[] = { { "tcp", 80, 0, "" }, { "udp", 53, 5353, "127.0.0.1" }, { "tcp", 80, 8080, NULL } };

	assert_prints(&(struct net_request){ .ports = ports, .nports = 1 }, "{}");
	assert_prints(&(struct net_request){ .ports = ports, .nports = 3 },
		      "{\"portMappings\":[{\"hostPort\":5353,\"containerPort\":53,\"protocol\":\"udp\",\"hostIP\":\"127.0.0.1\"},"
		      "{\"hostPort\":8080,\"containerPort\":80,\"protocol\":\"tcp\",\"hostIP\":\"\"}]}");
}

TEST(only_the_limited_direction_is_named)
{
	assert_prints(&(struct net_request){ .egress_bits = 1000000 },
		      "{\"bandwidth\":{\"egressRate\":1000000,\"egressBurst\":4294967295}}");
}

TEST(dns_and_cgroup_are_told)
{
	char *servers[] = { (char *)"10.0.0.10", NULL };
	char *searches[] = { (char *)"a.b", (char *)"b", NULL };

	assert_prints(&(struct net_request){ .dns_servers = servers, .dns_searches = searches, .cgroup_path = "/kubepods/x" },
		      "{\"dns\":{\"servers\":[\"10.0.0.10\"],\"searches\":[\"a.b\",\"b\"]},\"cgroupPath\":\"/kubepods/x\"}");
}
