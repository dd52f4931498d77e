#!/bin/sh
# Two hosts on one machine, "one" and "two": runs a command on both, each in a network namespace of its own, joined by a
# cable. It needs to be root in namespaces that unshare makes:
#
#   unshare --mount --net --uts --pid --fork --kill-child --mount-proc tests/two_hosts.sh FOLDER_1 FOLDER_2 COMMAND ...
#
# Each host works in its folder and doesn't see the other's: there is no shared file system. Prints the hosts' exit
# codes; succeeds if both did. Nothing stays behind, however this ends: the kernel takes the namespaces, the cable and
# the processes away with unshare's child.
set -eu
folder_1=$1 folder_2=$2
shift 2

# Where names of network namespaces are kept; here nobody else sees them.
mount --make-rprivate /
mount -t tmpfs tmpfs /run
ip netns add one
ip netns add two
ip link add cable netns one type veth peer name cable netns two
ip -n one address add 10.77.0.1/24 dev cable
ip -n two address add 10.77.0.2/24 dev cable
printf '127.0.0.1 localhost\n10.77.0.1 one\n10.77.0.2 two\n' >/run/hosts
mount --bind /run/hosts /etc/hosts

on() { # host, its folder, the other's folder, command
  ip -n "$1" link set lo up
  ip -n "$1" link set cable up
  ip netns exec "$1" unshare --uts sh -euc \
    'hostname "$1"; mount -t tmpfs tmpfs "$3"; cd "$2"; shift 3; exec "$@"' sh "$@"
}

on one "$folder_1" "$folder_2" "$@" &
first=$!
on two "$folder_2" "$folder_1" "$@" &
second=$!
code_1=0 code_2=0
wait $first || code_1=$?
wait $second || code_2=$?
echo "exit codes of the hosts: $code_1 $code_2" >&2
[ "$code_1" = 0 ] && [ "$code_2" = 0 ]
