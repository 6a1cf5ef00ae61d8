#include "kernel/netdev.h"

#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MESSAGE_BYTES = 512, DUMP_BYTES = 32 * 1024, ADDRESSES_MAX = 128, ADDRESS_BYTES = 16 };

struct request {
	struct nlmsghdr head;
	char rest[MESSAGE_BYTES];
};
struct address {
	struct ifaddrmsg m;
	unsigned char local[ADDRESS_BYTES], peer[ADDRESS_BYTES], broadcast[ADDRESS_BYTES];
	unsigned short nlocal, npeer, nbroadcast;
	uint32_t flags;
};
struct addresses {
	struct address p[ADDRESSES_MAX];
	size_t n;
};

/* --- rtnetlink ------------------------------------------------------------------------------------ */

static int route_socket(struct err *e)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	return fd < 0 ? err_sys(e, errno, "open a routing socket") : fd;
}

static void begin(struct request *r, unsigned short type, unsigned short flags, const void *body, size_t n)
{
	*r = (struct request){ .head = { .nlmsg_len = (uint32_t)NLMSG_LENGTH(n), .nlmsg_type = type,
					 .nlmsg_flags = (unsigned short)(NLM_F_REQUEST | flags) } };
	memcpy(NLMSG_DATA(&r->head), body, n);
}

static void add(struct request *r, unsigned short type, const void *value, size_t n)
{
	struct rtattr *at = (struct rtattr *)((char *)r + NLMSG_ALIGN(r->head.nlmsg_len));

	BUG_ON(NLMSG_ALIGN(r->head.nlmsg_len) + RTA_SPACE(n) > sizeof(*r));
	at->rta_type = type;
	at->rta_len = (unsigned short)RTA_LENGTH(n);
	memcpy(RTA_DATA(at), value, n);
	r->head.nlmsg_len = (uint32_t)(NLMSG_ALIGN(r->head.nlmsg_len) + RTA_SPACE(n));
}

static ssize_t receive(int sock, void *space, size_t max)
{
	ssize_t n;

	do {
		n = recv(sock, space, max, 0);
	} while (n < 0 && errno == EINTR);
	return n;
}

/* 0, or the errno of the answer. */
static int ask(int sock, struct request *r)
{
	char answer[1024] __attribute__((aligned(8)));
	const struct nlmsghdr *head = (const struct nlmsghdr *)answer;
	ssize_t n;

	r->head.nlmsg_flags |= NLM_F_ACK;
	if (send(sock, r, r->head.nlmsg_len, 0) < 0)
		return errno;
	n = receive(sock, answer, sizeof(answer));
	if (n < 0)
		return errno;
	if ((size_t)n < NLMSG_LENGTH(sizeof(struct nlmsgerr)) || head->nlmsg_type != NLMSG_ERROR)
		return EBADMSG;
	return -((const struct nlmsgerr *)NLMSG_DATA(head))->error;
}

/* --- addresses ------------------------------------------------------------------------------------ */

static void take(const struct rtattr *at, unsigned char to[ADDRESS_BYTES], unsigned short *n)
{
	if (RTA_PAYLOAD(at) > ADDRESS_BYTES)
		return;
	*n = (unsigned short)RTA_PAYLOAD(at);
	memcpy(to, RTA_DATA(at), *n);
}

static void note(const struct nlmsghdr *head, int index, struct addresses *out)
{
	const struct ifaddrmsg *m = NLMSG_DATA(head);
	struct address a = { .m = *m, .flags = m->ifa_flags };
	unsigned left = (unsigned)IFA_PAYLOAD(head);

	if ((int)m->ifa_index != index || m->ifa_scope != RT_SCOPE_UNIVERSE || out->n == ADDRESSES_MAX)
		return;
	for (const struct rtattr *at = IFA_RTA(m); RTA_OK(at, left); at = RTA_NEXT(at, left)) {
		if (at->rta_type == IFA_LOCAL)
			take(at, a.local, &a.nlocal);
		if (at->rta_type == IFA_ADDRESS)
			take(at, a.peer, &a.npeer);
		if (at->rta_type == IFA_BROADCAST)
			take(at, a.broadcast, &a.nbroadcast);
		if (at->rta_type == IFA_FLAGS && RTA_PAYLOAD(at) == sizeof(a.flags))
			memcpy(&a.flags, RTA_DATA(at), sizeof(a.flags));
	}
	if (a.flags & IFA_F_PERMANENT)
		out->p[out->n++] = a;
}

static int addresses_of(int sock, int index, struct addresses *out, struct err *e)
{
	static char space[DUMP_BYTES] __attribute__((aligned(8)));
	struct ifaddrmsg every = { .ifa_family = AF_UNSPEC };
	struct request r;

	out->n = 0;
	begin(&r, RTM_GETADDR, NLM_F_DUMP, &every, sizeof(every));
	if (send(sock, &r, r.head.nlmsg_len, 0) < 0)
		return err_sys(e, errno, "ask for addresses");
	for (;;) {
		ssize_t n = receive(sock, space, sizeof(space));
		unsigned left = n < 0 ? 0 : (unsigned)n;

		if (n <= 0)
			return err_sys(e, n ? errno : EBADMSG, "hear of addresses");
		for (const struct nlmsghdr *head = (const struct nlmsghdr *)space; NLMSG_OK(head, left);
		     head = NLMSG_NEXT(head, left)) {
			if (head->nlmsg_type == NLMSG_DONE)
				return 0;
			if (head->nlmsg_type == NLMSG_ERROR)
				return err_set(e, ERR_SYSTEM, "the kernel does not tell of addresses");
			if (head->nlmsg_type == RTM_NEWADDR)
				note(head, index, out);
		}
	}
}

static int address_add(int sock, int index, const struct address *a)
{
	struct ifaddrmsg m = a->m;
	/* Nothing that the kernel finds out by itself; and no other host has had time to take the address. */
	uint32_t flags = (a->flags & ~(uint32_t)(IFA_F_TENTATIVE | IFA_F_DADFAILED | IFA_F_DEPRECATED)) |
			 (m.ifa_family == AF_INET6 ? IFA_F_NODAD : 0);
	struct request r;
	int rc;

	m.ifa_index = (unsigned)index;
	m.ifa_flags = 0;
	begin(&r, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &m, sizeof(m));
	if (a->nlocal)
		add(&r, IFA_LOCAL, a->local, a->nlocal);
	if (a->npeer)
		add(&r, IFA_ADDRESS, a->peer, a->npeer);
	if (a->nbroadcast)
		add(&r, IFA_BROADCAST, a->broadcast, a->nbroadcast);
	add(&r, IFA_FLAGS, &flags, sizeof(flags));
	rc = ask(sock, &r);
	return rc == EEXIST ? 0 : rc;
}

/* --- the move ------------------------------------------------------------------------------------- */

/* A namespace as two sockets of it: to ask for names, and to change things. */
struct place {
	int names, routes;
};

static void place_close(struct place *p)
{
	fd_close(&p->names);
	fd_close(&p->routes);
}
#define auto_place AUTO(place_close) struct place

static int place_open(struct place *p, struct err *e)
{
	p->names = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (p->names < 0)
		return err_sys(e, errno, "socket");
	p->routes = route_socket(e);
	return p->routes < 0 ? -1 : 0;
}

static int place_open_there(struct place *p, int netns_fd, int own_netns_fd, struct err *e)
{
	int rc;

	if (setns(netns_fd, CLONE_NEWNET) < 0)
		return err_sys(e, errno, "join the container's network namespace");
	rc = place_open(p, e);
	if (setns(own_netns_fd, CLONE_NEWNET) < 0)
		BUG("cannot come back to our own network namespace");
	return rc;
}

static int index_of(const struct place *p, const char *name, struct err *e)
{
	struct ifreq r = { 0 };

	memcpy(r.ifr_name, name, strlen(name));
	if (ioctl(p->names, SIOCGIFINDEX, &r) < 0)
		return errno == ENODEV ? err_set(e, ERR_NOT_FOUND, "there is no network interface %s", name) :
		       err_sys(e, errno, "look up the network interface %s", name);
	return r.ifr_ifindex;
}

static int send_away(int sock, int index, int netns_fd, const char *new_name, struct err *e)
{
	struct ifinfomsg m = { .ifi_index = index };
	uint32_t ns = (uint32_t)netns_fd;
	struct request r;
	int rc;

	begin(&r, RTM_NEWLINK, 0, &m, sizeof(m));
	add(&r, IFLA_NET_NS_FD, &ns, sizeof(ns));
	add(&r, IFLA_IFNAME, new_name, strlen(new_name) + 1);
	rc = ask(sock, &r);
	return rc ? err_sys(e, rc, "move it into the container as %s", new_name) : 0;
}

static int set_up_there(const struct place *p, const char *name, const struct addresses *all, struct err *e)
{
	struct ifinfomsg m = { .ifi_flags = IFF_UP, .ifi_change = IFF_UP, .ifi_index = index_of(p, name, e) };
	struct request r;
	int rc;

	if (m.ifi_index < 0)
		return -1;
	for (size_t i = 0; i < all->n; i++)
		if ((rc = address_add(p->routes, m.ifi_index, &all->p[i])))
			return err_sys(e, rc, "give %s its address %zu of %zu again", name, i + 1, all->n);
	begin(&r, RTM_NEWLINK, 0, &m, sizeof(m));
	rc = ask(p->routes, &r);
	return rc ? err_sys(e, rc, "bring up %s", name) : 0;
}

int netdev_move(const char *name, int netns_fd, const char *new_name, int own_netns_fd, struct err *e)
{
	auto_place here = { -1, -1 }, there = { -1, -1 };
	static struct addresses all;
	struct err free_name;
	int index;

	if (place_open(&here, e) < 0 || place_open_there(&there, netns_fd, own_netns_fd, e) < 0)
		return -1;
	index = index_of(&here, name, e);
	if (index < 0 || addresses_of(here.routes, index, &all, e) < 0)
		return -1;
	/* The kernel would move it first, and then find that it cannot have the name. */
	if (index_of(&there, new_name, &free_name) >= 0)
		return err_set(e, ERR_EXISTS, "there is a network interface %s in the container already", new_name);
	if (send_away(here.routes, index, netns_fd, new_name, e) < 0)
		return -1;
	return set_up_there(&there, new_name, &all, e);
}
