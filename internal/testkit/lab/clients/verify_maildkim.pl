# Verifies every DKIM signature of the message on the standard input with
# Mail::DKIM, which knows RSA only; prints one JSON object.
# usage: verify_maildkim.pl DNSHOST DNSPORT
use strict;
use warnings;
use JSON::PP;
use Mail::DKIM::DNS;
use Mail::DKIM::Verifier;
use Net::DNS::Resolver;

my ($host, $port) = @ARGV;
Mail::DKIM::DNS::resolver(Net::DNS::Resolver->new(nameservers => [$host], port => $port, recurse => 0));
my $v = Mail::DKIM::Verifier->new;
binmode STDIN;
$v->PRINT(do { local $/; <STDIN> });
$v->CLOSE;
print encode_json({ dkim => [ map { {
	domain => $_->domain, selector => $_->selector, algorithm => $_->algorithm, pass => ($_->result eq 'pass' ? JSON::PP::true : JSON::PP::false), detail => $_->result_detail,
} } $v->signatures ] }), "\n";
