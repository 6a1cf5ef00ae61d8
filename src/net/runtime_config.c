#include "net/runtime_config.h"

#include <inttypes.h>

/* A burst of 4 GiB: the rate alone limits, as kubelet's annotations mean it. */
#define BURST_BITS UINT32_MAX

static int comma(struct buf *b, struct err *e)
{
	char last = b->p[b->len - 1];

	return last == '{' || last == '[' ? 0 : buf_addz(b, ",", e);
}

static int print_ports(struct buf *b, const struct net_request *r, struct err *e)
{
	bool any = false;

	for (size_t i = 0; i < r->nports; i++)
		any |= r->ports[i].host_port != 0;
	if (!any)
		return 0; /* a port without host_port is only told, not mapped */
	if (comma(b, e) < 0 || buf_addz(b, "\"portMappings\":[", e) < 0)
		return -1;
	for (size_t i = 0; i < r->nports; i++) {
		const struct net_port *p = &r->ports[i];

		if (p->host_port == 0)
			continue;
		if (comma(b, e) < 0 ||
		    buf_addf(b, e, "{\"hostPort\":%u,\"containerPort\":%u,\"protocol\":", p->host_port,
			     p->container_port) < 0 ||
		    json_write_text(b, p->protocol, e) < 0 || buf_addz(b, ",\"hostIP\":", e) < 0 ||
		    json_write_text(b, p->host_ip ? p->host_ip : "", e) < 0 || buf_addz(b, "}", e) < 0)
			return -1;
	}
	return buf_addz(b, "]", e);
}

static int print_rate(struct buf *b, const char *name, uint64_t bits, struct err *e)
{
	if (bits == 0)
		return 0;
	if (comma(b, e) < 0)
		return -1;
	return buf_addf(b, e, "\"%sRate\":%" PRIu64 ",\"%sBurst\":%" PRIu32, name, bits, name, BURST_BITS);
}

static int print_bandwidth(struct buf *b, const struct net_request *r, struct err *e)
{
	if (r->ingress_bits == 0 && r->egress_bits == 0)
		return 0;
	if (comma(b, e) < 0 || buf_addz(b, "\"bandwidth\":{", e) < 0 ||
	    print_rate(b, "ingress", r->ingress_bits, e) < 0 || print_rate(b, "egress", r->egress_bits, e) < 0)
		return -1;
	return buf_addz(b, "}", e);
}

static int print_texts(struct buf *b, const char *name, char *const *texts, struct err *e)
{
	if (strv_len(texts) == 0)
		return 0;
	if (comma(b, e) < 0 || buf_addf(b, e, "\"%s\":[", name) < 0)
		return -1;
	for (; *texts; texts++)
		if (comma(b, e) < 0 || json_write_text(b, *texts, e) < 0)
			return -1;
	return buf_addz(b, "]", e);
}

static int print_dns(struct buf *b, const struct net_request *r, struct err *e)
{
	if (!strv_len(r->dns_servers) && !strv_len(r->dns_searches) && !strv_len(r->dns_options))
		return 0;
	if (comma(b, e) < 0 || buf_addz(b, "\"dns\":{", e) < 0 ||
	    print_texts(b, "servers", r->dns_servers, e) < 0 ||
	    print_texts(b, "searches", r->dns_searches, e) < 0 ||
	    print_texts(b, "options", r->dns_options, e) < 0)
		return -1;
	return buf_addz(b, "}", e);
}

static int print_cgroup(struct buf *b, const struct net_request *r, struct err *e)
{
	if (str_is_empty(r->cgroup_path))
		return 0;
	if (comma(b, e) < 0 || buf_addz(b, "\"cgroupPath\":", e) < 0)
		return -1;
	return json_write_text(b, r->cgroup_path, e);
}

int runtime_config_print(struct buf *b, const struct net_request *r, struct err *e)
{
	if (buf_addz(b, "{", e) < 0 || print_ports(b, r, e) < 0 || print_bandwidth(b, r, e) < 0 ||
	    print_dns(b, r, e) < 0 || print_cgroup(b, r, e) < 0)
		return -1;
	return buf_addz(b, "}", e);
}
